{{- /*
weft.values: the settings of one release as YAML: the shared defaults, then `global:`, then the top level.
*/ -}}
{{- define "weft.values" -}}
{{- $shared := omit (deepCopy (index .Values "weft-proxy" | default dict)) "global" -}}
{{- $global := deepCopy (.Values.global | default dict) -}}
{{- $own := omit (deepCopy .Values) "global" "weft-proxy" -}}
{{- $values := mergeOverwrite $shared $global $own -}}
{{- if not $values.identityTrustDomain }}{{ $_ := set $values "identityTrustDomain" $values.clusterDomain }}{{ end -}}
{{- if not $values.imageVersion }}{{ $_ := set $values "imageVersion" .Chart.AppVersion }}{{ end -}}
{{- $image := $values.proxy.image -}}
{{- if not $image.name }}{{ $_ := set $image "name" (printf "%sproxy" $values.imagePrefix) }}{{ end -}}
{{- if not $image.version }}{{ $_ := set $image "version" $values.imageVersion }}{{ end -}}
{{- if not $image.pullPolicy }}{{ $_ := set $image "pullPolicy" $values.imagePullPolicy }}{{ end -}}
{{- if not $values.identityTrustAnchorsPEM -}}
{{- $installed := lookup "v1" "ConfigMap" $values.controlPlaneNamespace "linkerd-identity-trust-roots" -}}
{{- $_ := set $values "identityTrustAnchorsPEM" (get ($installed.data | default dict) "ca-bundle.crt" | default "") -}}
{{- end -}}
{{- $_ := set $values "identityTrustAnchorsPEM" (trim $values.identityTrustAnchorsPEM) -}}
{{- if not (has $values.proxyInit.iptablesMode (list "nft" "legacy")) }}{{ fail (printf "proxyInit.iptablesMode is %q: use nft or legacy" $values.proxyInit.iptablesMode) }}{{ end -}}
{{- toYaml $values -}}
{{- end -}}

{{- /* weft.image: dict "v" values "name" program. */ -}}
{{- define "weft.image" -}}
{{ .v.imagePrefix }}{{ .name }}:{{ .v.imageVersion }}
{{- end -}}

{{- /* weft.redisURL: what WEFT_REDIS_URL holds; empty means no Redis. */ -}}
{{- define "weft.redisURL" -}}
{{- if eq .redis.url "none" }}{{ else if .redis.url }}{{ .redis.url }}{{ else -}}
redis://weft-redis.{{ .controlPlaneNamespace }}.svc.{{ .clusterDomain }}:6379/0
{{- end -}}
{{- end -}}

{{- /* weft.requireAnchors: stops a chart that cannot work without the trust bundle. */ -}}
{{- define "weft.requireAnchors" -}}
{{- if not .identityTrustAnchorsPEM }}{{ fail "identityTrustAnchorsPEM is empty: pass the trust anchors, e.g. --set-file global.identityTrustAnchorsPEM=ca.crt" }}{{ end -}}
{{- end -}}
