{{- define "weft.proxyEnv" -}}
{{- $v := .v }}{{ $proxy := .v.proxy }}{{ $component := . }}
{{- $listen := ternary "0.0.0.0" "[::]" $v.disableIPv6 }}
{{- range $name, $path := dict "_pod_name" "metadata.name" "_pod_ns" "metadata.namespace" "_pod_uid" "metadata.uid" "_pod_ip" "status.podIP" "_pod_nodeName" "spec.nodeName" "_pod_sa" "spec.serviceAccountName" }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
- name: _pod_containerName
  value: linkerd-proxy
- name: _l5d_ns
  value: {{ $v.controlPlaneNamespace }}
- name: _l5d_trustdomain
  value: {{ $v.identityTrustDomain }}
- name: LINKERD2_PROXY_CORES
  value: {{ $proxy.runtime.workers.minimum | quote }}
- name: LINKERD2_PROXY_CORES_MIN
  value: {{ $proxy.runtime.workers.minimum | quote }}
{{- with $proxy.runtime.workers.maximum }}
- name: LINKERD2_PROXY_CORES_MAX
  value: {{ . | quote }}
{{- end }}
{{- with $proxy.runtime.workers.maximumCPURatio }}
- name: LINKERD2_PROXY_CORES_MAX_RATIO
  value: {{ . | quote }}
{{- end }}
{{- with $proxy.requireIdentityOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY
  value: {{ . | quote }}
{{- end }}
{{- with .requireTLS }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS
  value: {{ . | quote }}
{{- end }}
{{- if .remoteIP }}
- name: LINKERD2_PROXY_INBOUND_REMOTE_IP_HEADER
  value: "true"
{{- end }}
- name: LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED
  value: {{ $proxy.enableShutdownEndpoint | quote }}
- name: LINKERD2_PROXY_LOG
  value: {{ include "weft.proxyLogFilter" $proxy | quote }}
- name: LINKERD2_PROXY_LOG_FORMAT
  value: {{ $proxy.logFormat | quote }}
{{- range list (dict "name" "DESTINATION" "host" "linkerd-dst-headless" "account" "linkerd-destination" "port" 8086) (dict "name" "POLICY" "host" "linkerd-policy" "account" "linkerd-destination" "port" 8090) (dict "name" "IDENTITY" "host" "linkerd-identity-headless" "account" "linkerd-identity" "port" 8080) }}
- name: LINKERD2_PROXY_{{ .name }}_SVC_ADDR
  value: {{ if has (lower .name) ($component.local | default list) }}localhost.{{ else }}{{ .host }}.{{ $v.controlPlaneNamespace }}.svc.{{ $v.clusterDomain }}.{{ end }}:{{ .port }}
- name: LINKERD2_PROXY_{{ .name }}_SVC_NAME
  value: {{ .account }}.$(_l5d_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
{{- end }}
- name: LINKERD2_PROXY_POLICY_WORKLOAD
  value: '{"ns":"$(_pod_ns)","pod":"$(_pod_name)"}'
- name: LINKERD2_PROXY_DESTINATION_CONTEXT
  value: '{"ns":"$(_pod_ns)","nodeName":"$(_pod_nodeName)","pod":"$(_pod_name)"}'
- name: LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS
  value: {{ $v.clusterNetworks | quote }}
- name: LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS
  value: {{ $v.clusterNetworks | quote }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES
  value: {{ ternary "." (printf "svc.%s." $v.clusterDomain) $proxy.enableExternalProfiles | quote }}
- name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY
  value: {{ include "weft.inboundPolicy" . }}
- name: LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT
  value: {{ $proxy.control.streams.initialTimeout | quote }}
- name: LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT
  value: {{ $proxy.control.streams.idleTimeout | quote }}
- name: LINKERD2_PROXY_CONTROL_STREAM_LIFETIME
  value: {{ $proxy.control.streams.lifetime | quote }}
- name: LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT
  value: {{ $proxy.inboundConnectTimeout | quote }}
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT
  value: {{ $proxy.outboundConnectTimeout | quote }}
- name: LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ $proxy.inboundDiscoveryCacheUnusedTimeout | quote }}
- name: LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ $proxy.outboundDiscoveryCacheUnusedTimeout | quote }}
{{- if $proxy.disableInboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
{{- if $proxy.disableOutboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
- name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR
  value: {{ printf "%s:%v" $listen $proxy.ports.control | quote }}
- name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR
  value: {{ printf "%s:%v" $listen $proxy.ports.admin | quote }}
- name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR
  value: {{ printf "%s:%v" $listen $proxy.ports.inbound | quote }}
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR
  value: {{ printf "127.0.0.1:%v" $proxy.ports.outbound | quote }}
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS
  value: {{ printf "127.0.0.1:%v%s" $proxy.ports.outbound (ternary "" (printf ",[::1]:%v" $proxy.ports.outbound) $v.disableIPv6) | quote }}
- name: LINKERD2_PROXY_INBOUND_IPS
  valueFrom:
    fieldRef:
      fieldPath: status.podIPs
- name: LINKERD2_PROXY_INBOUND_PORTS
  {{- $ports := list }}
  {{- range .ports }}{{ $ports = append $ports (toString .port) }}{{ end }}
  value: {{ $ports | uniq | sortAlpha | join "," | quote }}
- name: LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT
  value: 30s
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT
  value: 30s
{{- range $side := list "inbound" "outbound" }}
{{- range $scope, $protocols := index $proxy $side }}
{{- range $protocol, $parameters := $protocols }}
{{- range $parameter, $value := $parameters }}
- name: LINKERD2_PROXY_{{ upper $side }}_{{ $scope | snakecase | upper }}_{{ upper $protocol }}_{{ $parameter | snakecase | upper }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
- name: LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS
  value: {{ $proxy.metrics.hostnameLabels | quote }}
- name: LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
  value: {{ .opaquePorts | default $proxy.opaquePorts | quote }}
- name: LINKERD2_PROXY_IDENTITY_DIR
  value: /var/run/linkerd/identity/end-entity
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
  {{- if eq .anchors "configMap" }}
  valueFrom:
    configMapKeyRef:
      name: linkerd-identity-trust-roots
      key: ca-bundle.crt
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS_FILE
  value: /var/run/linkerd/identity/trust-roots/ca-bundle.crt
  {{- else }}
  value: |-
    {{- $v.identityTrustAnchorsPEM | nindent 4 }}
  {{- end }}
- name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
  value: /var/run/secrets/tokens/linkerd-identity-token
- name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
  value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
{{- with $proxy.accessLog }}
- name: LINKERD2_PROXY_ACCESS_LOG
  value: {{ . | quote }}
{{- end }}
{{- with $v.vizNamespace }}
- name: LINKERD2_PROXY_TAP_SVC_NAME
  value: metrics-api.{{ . }}.serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)
{{- end }}
{{- with $proxy.shutdownGracePeriod }}
- name: LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD
  value: {{ . | quote }}
{{- end }}
{{- with $proxy.additionalEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "weft.proxyLogFilter" -}}
{{ .logLevel }}{{ if ne .logHTTPHeaders "insecure" }},[{headers}]=off,[{request}]=off{{ end }}
{{- end -}}

{{- /* weft.inboundPolicy: the control plane serves proxies that have no certificate yet, whatever the others default to. */ -}}
{{- define "weft.inboundPolicy" -}}
{{ ternary "all-unauthenticated" .v.proxy.defaultInboundPolicy .controlPlane }}
{{- end -}}
