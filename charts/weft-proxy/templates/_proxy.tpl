{{- /*
weft.proxy: the proxy of a component rendered with its sidecar already in place, field for field what the injector adds to
other pods. Further fields of the component:
  native, await  how it starts
  local          services that live in this very pod, such as identity: reached over localhost.
  anchors        configMap or inline: where the trust bundle comes from
  requireTLS     ports that take mesh TLS only
*/ -}}
{{- define "weft.proxy" -}}
{{- $proxy := .v.proxy -}}
name: linkerd-proxy
image: {{ $proxy.image.name }}:{{ $proxy.image.version }}
imagePullPolicy: {{ $proxy.image.pullPolicy }}
env:
  {{- include "weft.proxyEnv" . | trim | nindent 2 }}
{{- if and (not .native) .await }}
lifecycle:
  postStart:
    exec:
      command:
        - /usr/lib/linkerd/linkerd-await
        - --timeout=2m
        - --port={{ $proxy.ports.admin }}
{{- end }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ $proxy.ports.admin }}
  {{- toYaml $proxy.livenessProbe | nindent 2 }}
ports:
  - containerPort: {{ $proxy.ports.inbound }}
    name: linkerd-proxy
  - containerPort: {{ $proxy.ports.admin }}
    name: linkerd-admin
readinessProbe:
  httpGet:
    path: /ready
    port: {{ $proxy.ports.admin }}
  {{- toYaml (merge (dict "periodSeconds" 2) $proxy.readinessProbe) | nindent 2 }}
{{- if and .native .await }}
startupProbe:
  httpGet:
    path: /ready
    port: {{ $proxy.ports.admin }}
  {{- toYaml $proxy.startupProbe | nindent 2 }}
{{- end }}
{{- with include "weft.proxyResources" $proxy.resources }}
resources:
  {{- . | nindent 2 }}
{{- end }}
{{- if .native }}
restartPolicy: Always
{{- end }}
securityContext:
  {{- if $proxy.securityContext }}
  {{- toYaml $proxy.securityContext | nindent 2 }}
  {{- else }}
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: {{ $proxy.uid }}
  {{- if ge (int $proxy.gid) 0 }}
  runAsGroup: {{ $proxy.gid }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
  {{- end }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - mountPath: /var/run/linkerd/identity/end-entity
    name: linkerd-identity-end-entity
  - mountPath: /var/run/secrets/tokens
    name: linkerd-identity-token
  {{- if eq .anchors "configMap" }}
  - mountPath: /var/run/linkerd/identity/trust-roots
    name: trust-roots
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "weft.proxyResources" -}}
{{- $limits := dict }}{{ $requests := dict }}
{{- range $kind, $amounts := . }}
{{- with $amounts.limit }}{{ $_ := set $limits $kind . }}{{ end }}
{{- with $amounts.request }}{{ $_ := set $requests $kind . }}{{ end }}
{{- end }}
{{- with $limits }}limits:
  {{- toYaml . | nindent 2 }}
{{ end }}
{{- with $requests }}requests:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "weft.proxyVolumes" -}}
{{- if not .v.cniEnabled }}
- name: {{ .v.proxyInit.xtMountPath.name }}
  emptyDir: {}
{{- end }}
{{- if eq .anchors "configMap" }}
- name: trust-roots
  configMap:
    name: linkerd-identity-trust-roots
{{- end }}
- name: linkerd-identity-end-entity
  emptyDir:
    medium: Memory
- name: linkerd-identity-token
  projected:
    sources:
      - serviceAccountToken:
          path: linkerd-identity-token
          audience: identity.l5d.io
          expirationSeconds: 86400
{{- end -}}
