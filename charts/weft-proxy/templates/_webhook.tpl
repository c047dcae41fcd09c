{{- /*
weft.webhookCertificate: the serving certificate of a webhook and the CA its callers trust, as YAML with crt, key, bundle,
made and annotations (for cert-manager). dict "v" values, "settings" the values that name it, "key" where they stand (for
messages), "service" the Service that is called.

In this order: what the values give; what is installed, so that an upgrade changes nothing; a new self-signed one, also
when fewer than 60 of the 365 days of an earlier one are left.
*/ -}}
{{- define "weft.webhookCertificate" -}}
{{- $s := .settings }}{{ $secret := printf "%s-k8s-tls" .service }}{{ $made := "" -}}
{{- $crt := trim $s.crtPEM }}{{ $key := trim $s.keyPEM }}{{ $bundle := trim $s.caBundle -}}
{{- $sources := without (list $bundle $s.injectCaFrom $s.injectCaFromSecret) "" -}}
{{- if gt (len $sources) 1 }}{{ fail (printf "%s.caBundle, injectCaFrom and injectCaFromSecret exclude each other: set one" .key) }}{{ end -}}
{{- if and $s.externalSecret (not $sources) }}{{ fail (printf "%s.externalSecret needs %s.caBundle, injectCaFrom or injectCaFromSecret: the CA that signed that certificate" .key .key) }}{{ end -}}
{{- if ne (empty $crt) (empty $key) }}{{ fail (printf "%s.crtPEM and %s.keyPEM go together: pass both or neither" .key .key) }}{{ end -}}
{{- if not (or $crt $s.externalSecret) -}}
{{- $installed := lookup "v1" "Secret" .v.controlPlaneNamespace $secret -}}
{{- $madeAt := get ((($installed.metadata | default dict).annotations) | default dict) "weft.dev/made-at" -}}
{{- $age := sub (now | unixEpoch | int64) ($madeAt | default "0" | int64) -}}
{{- if and $installed.data (or (not $madeAt) (lt $age 26352000)) -}}
{{- $crt = index $installed.data "tls.crt" | b64dec }}{{ $key = index $installed.data "tls.key" | b64dec }}{{ $made = $madeAt -}}
{{- else -}}
{{- $host := printf "%s.%s.svc" .service .v.controlPlaneNamespace -}}
{{- $new := genSelfSignedCert $host (list) (list $host) 365 -}}
{{- $crt = trim $new.Cert }}{{ $key = trim $new.Key }}{{ $made = now | unixEpoch -}}
{{- end -}}
{{- end -}}
{{- if not $sources }}{{ $bundle = $crt }}{{ end -}}
{{- $annotations := dict -}}
{{- with $s.injectCaFrom }}{{ $_ := set $annotations "cert-manager.io/inject-ca-from" . }}{{ end -}}
{{- with $s.injectCaFromSecret }}{{ $_ := set $annotations "cert-manager.io/inject-ca-from-secret" . }}{{ end -}}
{{- dict "crt" $crt "key" $key "bundle" $bundle "made" $made "annotations" $annotations | toYaml -}}
{{- end -}}

{{- /* weft.webhookSecret: the Secret of weft.webhookCertificate. dict "v", "tls", "service", "component". */ -}}
{{- define "weft.webhookSecret" -}}
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata:
  name: {{ .service }}-k8s-tls
  namespace: {{ .v.controlPlaneNamespace }}
  labels:
    linkerd.io/control-plane-component: {{ .component }}
    linkerd.io/control-plane-ns: {{ .v.controlPlaneNamespace }}
  {{- with .tls.made }}
  annotations:
    # Seconds since 1970, of a certificate that Helm made.
    weft.dev/made-at: {{ . | quote }}
  {{- end }}
data:
  tls.crt: {{ b64enc .tls.crt }}
  tls.key: {{ b64enc .tls.key }}
{{- end -}}
