{{/* Name of everything of this release; at most 63 characters, and policies add up to 16. */}}
{{- define "deployment-guard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- else if contains "deployment-guard" .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-deployment-guard" .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "deployment-guard.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "deployment-guard.fullname" .) -}}
{{- end -}}

{{/* What selects the operator's pods. It never changes: selectors cannot. */}}
{{- define "deployment-guard.selector" -}}
app.kubernetes.io/name: deployment-guard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object but pods. */}}
{{- define "deployment-guard.labels" -}}
{{ include "deployment-guard.selector" . }}
app.kubernetes.io/part-of: deployment-guard
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "deployment-guard.image" -}}
{{- with .Values.image -}}
{{- $name := .repository -}}
{{- if .registry }}{{ $name = printf "%s/%s" .registry .repository }}{{ end -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The ServiceAccount as the API server names it. */}}
{{- define "deployment-guard.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "deployment-guard.serviceAccount" . }}
{{- end -}}

{{/* Where a pod may lie, for the operator and for the hook. */}}
{{- define "deployment-guard.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What may not stand together, with what to do. */}}
{{- define "deployment-guard.check" -}}
{{- range $label := concat (keys (include "deployment-guard.selector" . | fromYaml)) (list "app.kubernetes.io/part-of" "app.kubernetes.io/version") -}}
{{- if hasKey ($.Values.commonLabels | default dict) $label -}}
{{- fail (printf "commonLabels: the label %s is the chart's own: take another" $label) -}}
{{- end -}}
{{- end -}}
{{- $labels := include "deployment-guard.labels" . | fromYaml -}}
{{- $more := dict "podLabels" .Values.podLabels -}}
{{- range $what := list "podMonitor" "serviceMonitor" "prometheusRule" "dashboard" -}}
{{- $_ := set $more (printf "metrics.%s.labels" $what) (index $.Values.metrics $what | default dict).labels -}}
{{- end -}}
{{- range $field, $added := $more -}}
{{- range $label := keys ($added | default dict) -}}
{{- if hasKey $labels $label -}}
{{- fail (printf "%s: the label %s is the chart's own or one of commonLabels: take another" $field $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own := dict "RUST_LOG" "the value log.level" "DEPLOYMENT_GUARD_LOG_FORMAT" "the value log.format" -}}
{{- $own = merge $own (dict "DEPLOYMENT_GUARD_NAMESPACES" "the value watchNamespaces" "POD_NAME" "the chart" "POD_NAMESPACE" "the chart") -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $own .name -}}
{{- fail (printf "extraEnv: %s is set by %s already" .name (index $own .name)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled scrape every pod twice: set one of them to false" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: name the ServiceAccount to use in serviceAccount.name" -}}
{{- end -}}
{{- if and .Values.guardClass.spec (not (dig "prometheus" "url" "" .Values.guardClass.spec)) -}}
{{- fail "guardClass.spec needs guardClass.spec.prometheus.url, such as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- end -}}
