{{- /*
The argument of every partial below is one component:
  v            values, from weft.values
  name         component name, such as identity; also the container's
  deployment   name of its Deployment and ServiceAccount
  namespace    where it lives
  controlPlane whether it belongs to the control plane (else to the viz extension)
  ports        container ports, as a list of dicts with name and port
*/ -}}

{{- define "weft.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: Weft
app.kubernetes.io/version: {{ .v.imageVersion | quote }}
{{ include "weft.selector" . }}
{{- with .v.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "weft.selector" -}}
{{- if .controlPlane -}}
linkerd.io/control-plane-component: {{ .name }}
linkerd.io/control-plane-ns: {{ .v.controlPlaneNamespace }}
{{- else -}}
linkerd.io/extension: viz
component: {{ .name }}
{{- end }}
{{- end -}}

{{- define "weft.podLabels" -}}
{{ include "weft.labels" . }}
{{- if not .controlPlane }}
linkerd.io/control-plane-ns: {{ .v.controlPlaneNamespace }}
{{- end }}
linkerd.io/proxy-deployment: {{ .deployment }}
linkerd.io/workload-ns: {{ .namespace }}
{{- with .v.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "weft.podAnnotations" -}}
cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
{{- with .opaquePorts }}
config.linkerd.io/opaque-ports: {{ . | quote }}
{{- end }}
config.linkerd.io/default-inbound-policy: {{ include "weft.inboundPolicy" . }}
linkerd.io/created-by: linkerd/helm {{ .v.imageVersion }}
linkerd.io/proxy-version: {{ .v.proxy.image.version }}
linkerd.io/trust-root-sha256: {{ .v.identityTrustAnchorsPEM | sha256sum }}
{{- with .v.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "weft.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .deployment }}
  namespace: {{ .namespace }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
{{- with .v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* weft.service: dict "component" … "name" … "headless" bool "annotations" dict "ports" list of dicts (name, port, targetPort). */ -}}
{{- define "weft.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .component.namespace }}
  labels:
    {{- include "weft.labels" .component | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: ClusterIP
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector:
    {{- include "weft.selector" .component | nindent 4 }}
  ports:
    {{- range .ports }}
    - name: {{ .name }}
      port: {{ .port }}
      targetPort: {{ .targetPort | default .name }}
    {{- end }}
{{- end -}}

{{- define "weft.namespaceObject" -}}
apiVersion: v1
kind: Namespace
metadata:
  name: {{ .name }}
  annotations:
    {{- toYaml .annotations | nindent 4 }}
  labels:
    {{- toYaml .labels | nindent 4 }}
{{- end -}}
