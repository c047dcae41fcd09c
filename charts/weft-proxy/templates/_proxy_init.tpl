{{- /* weft.proxyInit: sets the firewall rules of a component. Component field skipOutbound: ports it reaches directly. */ -}}
{{- define "weft.proxyInit" -}}
{{- if .v.cniEnabled }}{{ include "weft.networkValidator" . }}{{ else }}{{ include "weft.firewallInit" . }}{{ end -}}
{{- end -}}

{{- define "weft.firewallInit" -}}
{{- $proxy := .v.proxy }}{{ $init := .v.proxyInit -}}
{{- $ignored := list (toString $proxy.ports.control) (toString $proxy.ports.admin) -}}
{{- with $init.ignoreInboundPorts }}{{ $ignored = append $ignored . }}{{ end -}}
name: linkerd-init
image: {{ $proxy.image.name }}:{{ $proxy.image.version }}
imagePullPolicy: {{ $proxy.image.pullPolicy }}
command: [/usr/lib/linkerd/linkerd2-proxy-init]
args:
  {{- if eq $init.iptablesMode "nft" }}
  - --firewall-bin-path
  - iptables-nft
  - --firewall-save-bin-path
  - iptables-nft-save
  {{- end }}
  {{- if .v.disableIPv6 }}
  - --ipv6=false
  {{- end }}
  - --incoming-proxy-port
  - {{ $proxy.ports.inbound | quote }}
  - --outgoing-proxy-port
  - {{ $proxy.ports.outbound | quote }}
  - --proxy-uid
  - {{ $proxy.uid | quote }}
  {{- if ge (int $proxy.gid) 0 }}
  - --proxy-gid
  - {{ $proxy.gid | quote }}
  {{- end }}
  - --inbound-ports-to-ignore
  - {{ join "," $ignored | quote }}
  {{- with .skipOutbound | default $init.ignoreOutboundPorts }}
  - --outbound-ports-to-ignore
  - {{ . | quote }}
  {{- end }}
  {{- if $init.closeWaitTimeoutSecs }}
  - --timeout-close-wait-secs
  - {{ $init.closeWaitTimeoutSecs | quote }}
  {{- end }}
  {{- with $init.logFormat }}
  - --log-format
  - {{ . | quote }}
  {{- end }}
  {{- with $init.logLevel }}
  - --log-level
  - {{ . | quote }}
  {{- end }}
  {{- with $init.skipSubnets }}
  - --subnets-to-ignore
  - {{ . | quote }}
  {{- end }}
{{- $privileged := or $init.privileged (gt (int $init.closeWaitTimeoutSecs) 0) }}
{{- with include "weft.proxyResources" $proxy.resources }}
resources:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: {{ $privileged }}
  capabilities:
    add: [NET_ADMIN, NET_RAW]
  privileged: {{ $privileged }}
  readOnlyRootFilesystem: true
  {{- if $init.runAsRoot }}
  runAsNonRoot: false
  runAsUser: 0
  runAsGroup: 0
  {{- else }}
  runAsNonRoot: true
  runAsUser: {{ $init.runAsUser }}
  runAsGroup: {{ $init.runAsGroup }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - mountPath: {{ $init.xtMountPath.mountPath }}
    name: {{ $init.xtMountPath.name }}
{{- end -}}

{{- /* weft.networkValidator: with a CNI plugin, fails the pod early when the rules are not in place. */ -}}
{{- define "weft.networkValidator" -}}
{{- $validator := .v.networkValidator -}}
name: linkerd-network-validator
image: {{ .v.proxy.image.name }}:{{ .v.proxy.image.version }}
imagePullPolicy: {{ .v.proxy.image.pullPolicy }}
command: [/usr/lib/linkerd/linkerd2-network-validator]
args:
  - --log-format
  - {{ $validator.logFormat | quote }}
  - --log-level
  - {{ $validator.logLevel | quote }}
  - --connect-addr
  - {{ $validator.connectAddr | default (ternary "1.1.1.1:20001" "[fd00::1]:20001" .v.disableIPv6) | quote }}
  - --listen-addr
  - {{ $validator.listenAddr | default (printf "%s:%v" (ternary "0.0.0.0" "[::]" .v.disableIPv6) .v.proxy.ports.outbound) | quote }}
  - --timeout
  - {{ $validator.timeout | quote }}
{{- with include "weft.proxyResources" .v.proxy.resources }}
resources:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}
