{{/*
The paths behind one name of front.exposed, as a JSON list of {path, exact}; call with {root, name}. /metrics and
/metrics/targets are behind none: Prometheus scrapes pods inside the cluster.
*/}}
{{- define "outrider.exposedPaths" -}}
{{- $paths := list -}}
{{- if eq .name "api" -}}
{{- $paths = append $paths (dict "path" "/v1" "exact" false) -}}
{{- range list "/tokenize" "/detokenize" "/openapi.json" -}}
{{- $paths = append $paths (dict "path" . "exact" true) -}}
{{- end -}}
{{- else if eq .name "probes" -}}
{{- range list "/health" "/ready" "/version" -}}
{{- $paths = append $paths (dict "path" . "exact" true) -}}
{{- end -}}
{{- else -}}
{{- if eq (toString (dig "page" true .root.Values.front.api)) "false" -}}
{{- fail "front.exposed: there is no page to expose where front.api.page is false; leave one of the two out" -}}
{{- end -}}
{{- $paths = append $paths (dict "path" "/" "exact" true) -}}
{{- $paths = append $paths (dict "path" "/page" "exact" false) -}}
{{- end -}}
{{- toJson $paths -}}
{{- end -}}
