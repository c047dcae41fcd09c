{{- /*
weft.deployment: one component beside its proxy. On top of the component's fields:
  image         whole image name
  env           dict of plain variables
  args          list of arguments
  volumes, mounts  of the application container
  admin         name of the port that serves /live and /ready; empty: a TCP probe of the first port
  native        whether the proxy is a native sidecar
*/ -}}
{{- define "weft.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .deployment }}
  namespace: {{ .namespace }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
spec:
  replicas: {{ .replicas | default 1 }}
  selector:
    matchLabels:
      {{- include "weft.selector" . | nindent 6 }}
      linkerd.io/proxy-deployment: {{ .deployment }}
  template:
    metadata:
      annotations:
        {{- include "weft.podAnnotations" . | nindent 8 }}
      labels:
        {{- include "weft.podLabels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ .deployment }}
      {{- with .v.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .v.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .v.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      initContainers:
        - {{ include "weft.proxyInit" . | nindent 10 | trim }}
        {{- if .native }}
        - {{ include "weft.proxy" . | nindent 10 | trim }}
        {{- end }}
      containers:
        - {{ include "weft.application" . | nindent 10 | trim }}
        {{- if not .native }}
        - {{ include "weft.proxy" . | nindent 10 | trim }}
        {{- end }}
      volumes:
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "weft.proxyVolumes" . | trim | nindent 8 }}
{{- end -}}

{{- define "weft.application" -}}
name: {{ .name }}
image: {{ .image }}
imagePullPolicy: {{ .v.imagePullPolicy }}
{{- with .args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .env }}
env:
  {{- range $name, $value := .env }}
  - name: {{ $name }}
    value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
ports:
  {{- range .ports }}
  - name: {{ .name }}
    containerPort: {{ .port }}
  {{- end }}
livenessProbe:
  {{- if .admin }}
  httpGet:
    path: /live
    port: {{ .admin }}
  {{- else }}
  tcpSocket:
    port: {{ (first .ports).name }}
  {{- end }}
  initialDelaySeconds: 10
  timeoutSeconds: 1
readinessProbe:
  {{- if .admin }}
  httpGet:
    path: /ready
    port: {{ .admin }}
  {{- else }}
  tcpSocket:
    port: {{ (first .ports).name }}
  {{- end }}
  failureThreshold: 7
  # The mesh waits for its control plane, so ask often.
  periodSeconds: 2
  timeoutSeconds: 1
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: {{ .v.controllerUID }}
  {{- if ge (int .v.controllerGID) 0 }}
  runAsGroup: {{ .v.controllerGID }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .mounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* weft.commonEnv: variables that all programs of Weft read. */ -}}
{{- define "weft.commonEnv" -}}
WEFT_LOG_LEVEL: {{ .controllerLogLevel | quote }}
WEFT_LOG_FORMAT: {{ .controllerLogFormat | quote }}
WEFT_CLUSTER_DOMAIN: {{ .clusterDomain | quote }}
WEFT_TRUST_DOMAIN: {{ .identityTrustDomain | quote }}
WEFT_CONTROL_PLANE_NAMESPACE: {{ .controlPlaneNamespace | quote }}
{{- end -}}
