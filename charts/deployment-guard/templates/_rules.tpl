{{/* Rights where guards and workloads are: everywhere, or in each of watchNamespaces. */}}
{{- define "deployment-guard.rules" -}}
{{- with .Values.rbac -}}
# The guarded workloads: watch them, and put a template back.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get, list, watch, patch]
# Their revisions, with the templates to go back to.
- apiGroups: [apps]
  resources: [replicasets, controllerrevisions]
  verbs: [list]
{{- if .keepTemplates }}
# Templates that proved good are kept as ControllerRevisions of the guard, and dropped when they are kept no longer.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, create, delete]
{{- end }}
# The pods of both revisions.{{ if .deletePods }} Deleted is, after an undo, a pod that a StatefulSet waits for instead of replacing it, or
# that nobody replaces because of OnDelete (spec.rollback.statefulSet.stuckPods, spec.rollback.onDelete).{{ end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch{{ if .deletePods }}, delete{{ end }}]
{{- if .readLogs }}
# Their logs, read while a rollout is judged (spec.logs).
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
{{- if .readServices }}
# Which of them stand behind a Service that a probe names (spec.probes); whether an undo would take a port from a Service.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
{{- end }}
# The guards.
- apiGroups: [deploymentguard.dev]
  resources: [deploymentguards]
  verbs: [get, list, watch]
- apiGroups: [deploymentguard.dev]
  resources: [deploymentguards/status]
  verbs: [patch]
# Owner references to a guard need this where OwnerReferencesPermissionEnforcement is on, as on OpenShift.
- apiGroups: [deploymentguard.dev]
  resources: [deploymentguards/finalizers]
  verbs: [update]
{{- if .writeConfigMaps }}
# Training samples, and what models were asked and said: one ConfigMap each per guard.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
{{- end }}
{{- if .writeEvents }}
# What happened, on the guard and on the workload.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- if .readEvents }}
# Kills by failing probes and volumes that cannot be mounted show in events only.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list]
{{- end }}
{{- if .readSecrets }}
# The metadata of Secrets that the target's pods read. RBAC knows no right to metadata alone.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}
# Only for guards with `rollback.gitOps: Suspend`. What Flux's kustomize-controller applies needs nothing more: it is
# suspended on the workload itself. With this right it is also given back as soon as Git has a new revision, not only
# when `rollback.suspendFor` is over.
{{ include "deployment-guard.optional" (dict "on" .gitOps.fluxKustomizations "group" "kustomize.toolkit.fluxcd.io" "resource" "kustomizations" "verbs" "get") }}
# What Flux's helm-controller applies is suspended on the HelmRelease, and found again by a label.
{{ include "deployment-guard.optional" (dict "on" .gitOps.fluxHelmReleases "group" "helm.toolkit.fluxcd.io" "resource" "helmreleases" "verbs" "get, list, patch") }}
# What Argo CD applies is suspended on the Application (its self-heal), and found again by a label.
{{ include "deployment-guard.optional" (dict "on" .gitOps.argoCdApplications "group" "argoproj.io" "resource" "applications" "verbs" "get, list, patch") }}
{{- end -}}
{{- end -}}

{{/* A rule, or a comment that shows it. */}}
{{- define "deployment-guard.optional" -}}
{{- $mark := ternary "" "# " .on -}}
{{ $mark }}- apiGroups: [{{ .group }}]
{{ $mark }}  resources: [{{ .resource }}]
{{ $mark }}  verbs: [{{ .verbs }}]
{{- end -}}

{{/* Rights on what has no namespace. */}}
{{- define "deployment-guard.clusterRules" -}}
{{- if .Values.rbac.readNodes -}}
# Whether a node is the better explanation of what pods do.
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{ end -}}
# Whether the rights on workloads are there, said in the guard's Ready condition.
- apiGroups: [authorization.k8s.io]
  resources: [selfsubjectaccessreviews]
  verbs: [create]
# The classes.
- apiGroups: [deploymentguard.dev]
  resources: [guardclasses]
  verbs: [list, watch]
- apiGroups: [deploymentguard.dev]
  resources: [guardclasses/status]
  verbs: [patch]
{{- end -}}
