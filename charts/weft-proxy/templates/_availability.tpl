{{- /*
What stands beside a component's Deployment where asked for: a PodDisruptionBudget and a NetworkPolicy. Both render with
their leading `---`, or nothing. Further field of the component:
  admit  who may connect to its own ports, as a list of NetworkPolicy peers; empty: everyone
*/ -}}
{{- define "weft.beside" -}}
{{- if and .v.enablePodDisruptionBudget (gt (int (.replicas | default 1)) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .deployment }}
  namespace: {{ .namespace }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "weft.selector" . | nindent 6 }}
{{- end }}
{{- if .v.networkPolicies.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .deployment }}
  namespace: {{ .namespace }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "weft.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    # The proxy's port carries the same traffic as the ports behind it, and its own policy decides beyond this.
    - ports:
        {{- range .ports }}
        - port: {{ .port }}
        {{- end }}
        - port: {{ .v.proxy.ports.inbound }}
      {{- with .admit }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    # Metrics and tap of the proxy, for the viz extension and a Prometheus wherever it runs.
    - ports:
        - port: {{ .v.proxy.ports.admin }}
        - port: {{ .v.proxy.ports.control }}
{{- end }}
{{- end -}}
