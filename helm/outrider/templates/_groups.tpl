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

{{- /* A JSON patch that gives the groups of a RayCluster these sizes, which KubeRay never does to one that runs. How many
pods an autoscaled group has just now stays the autoscaler's. */ -}}
{{- define "outrider.resize" -}}
{{- $groups := list .Values.target -}}
{{- if include "outrider.drafts" . -}}
{{- $groups = append $groups .Values.drafters -}}
{{- end -}}
{{- $patch := list -}}
{{- range $index, $group := append $groups .Values.front -}}
{{- range $key, $count := include "outrider.groupSize" $group | fromYaml -}}
{{- if not (and $group.autoscaling (eq $key "replicas")) -}}
{{- $path := printf "/spec/workerGroupSpecs/%d/%s" $index $key -}}
{{- $patch = append $patch (dict "op" "replace" "path" $path "value" $count) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $patch -}}
{{- end -}}

{{- /* What nodes that may be taken away are usually tainted with: GKE, AKS, and clusters that say so themselves. */ -}}
{{- define "outrider.spotTolerations" -}}
- {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}
- {key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}
- {key: spot, operator: Exists}
{{- end -}}
