{{/* The name of the operator's objects: the release's, with the chart's unless it says so already. */}}
{{- define "moorage.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of an object that has no namespace: two releases of one name in two namespaces do not share it. */}}
{{- define "moorage.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "moorage.name" .) -}}
{{- end -}}

{{/* Not `moorage`: that is the name of what the operator makes. The stores' network policies let this one in. */}}
{{- define "moorage.selector" -}}
app.kubernetes.io/name: moorage-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "moorage.labels" -}}
{{ include "moorage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "moorage.image" -}}
{{- $registry := ternary "" (printf "%s/" .Values.image.registry) (empty .Values.image.registry) -}}
{{- if .Values.image.digest -}}
{{- printf "%s%s@%s" $registry .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s%s:%s" $registry .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "moorage.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the profile `restricted` wants of a pod, and of a container. */}}
{{- define "moorage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "moorage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* URL and admin Secret of the store that `helm test` uses; empty when there is none. */}}
{{- define "moorage.testURL" -}}
{{- if .Values.test.url -}}
{{- .Values.test.url -}}
{{- else if .Values.demo.enabled -}}
{{- include "moorage.demoInside" . -}}
{{- end -}}
{{- end -}}

{{- define "moorage.testSecret" -}}
{{- .Values.test.adminSecret | default (printf "%s-admin" .Values.demo.name) -}}
{{- end -}}

{{- define "moorage.demoInside" -}}
{{- printf "http://%s-proxy.%s.svc" .Values.demo.name .Release.Namespace -}}
{{- end -}}
