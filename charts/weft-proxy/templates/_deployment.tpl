{{- /*
weft.deployment: one component beside its proxy. On top of the component's fields:
  image         whole image name
  env           dict of plain variables
  args          list of arguments
  volumes, mounts  of the application container
  admin         name of the port that serves /live and /ready; empty: a TCP probe of the first port
  native        whether the proxy is a native sidecar
  api           whether the application calls the Kubernetes API; only then is it given a token for it
  resources     of the application container, as in a pod
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
  {{- with .v.deploymentStrategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
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
      automountServiceAccountToken: false
      {{- with include "weft.affinity" . | trim }}
      affinity:
        {{- . | nindent 8 }}
      {{- end }}
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
        {{- if .api }}
        {{- include "weft.apiAccessVolume" . | nindent 8 }}
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
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
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
{{- if or .mounts .api }}
volumeMounts:
  {{- with .mounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .api }}
  - mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    name: kube-api-access
    readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{- /* weft.apiAccessVolume: what the API server would mount into every container, for the one that needs it. */ -}}
{{- define "weft.apiAccessVolume" -}}
- name: kube-api-access
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end -}}

{{- /* weft.affinity: copies on different nodes, rather in different zones; and the node affinity asked for. */ -}}
{{- define "weft.affinity" -}}
{{- with .v.nodeAffinity }}
nodeAffinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .v.enablePodAntiAffinity (gt (int (.replicas | default 1)) 1) }}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        labelSelector:
          matchLabels:
            {{- include "weft.selector" . | nindent 12 }}
        topologyKey: topology.kubernetes.io/zone
  requiredDuringSchedulingIgnoredDuringExecution:
    - labelSelector:
        matchLabels:
          {{- include "weft.selector" . | nindent 10 }}
      topologyKey: kubernetes.io/hostname
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
