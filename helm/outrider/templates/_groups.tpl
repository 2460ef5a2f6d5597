{{- /* How many pods a role's group has: as many as the role has replicas, or may have. Takes the role's values. */ -}}
{{- define "outrider.groupSize" -}}
{{- $scaling := .autoscaling -}}
{{- if $scaling -}}
{{- $least := int (default 1 $scaling.min_replicas) -}}
replicas: {{ $least }}
minReplicas: {{ $least }}
maxReplicas: {{ int $scaling.max_replicas }}
{{- else -}}
replicas: {{ int .replicas }}
minReplicas: {{ int .replicas }}
maxReplicas: {{ int .replicas }}
{{- end -}}
{{- end -}}

{{- /* What nodes that may be taken away are usually tainted with: GKE, AKS, and clusters that say so themselves. */ -}}
{{- define "outrider.spotTolerations" -}}
- {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}
- {key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}
- {key: spot, operator: Exists}
{{- end -}}
