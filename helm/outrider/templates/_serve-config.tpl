{{- /* What Ray Serve is told: our application, and its settings as in the settings file (cluster/config.py).
Ingress processes listen for HTTP themselves: no proxy of Serve's runs, on drafters least of all, which may vanish. */ -}}
{{- define "outrider.serveConfig" -}}
proxy_location: Disabled
http_options:
  host: 127.0.0.1
  port: 8000
applications:
  - name: outrider
    import_path: cluster.serve_app:build
    route_prefix: /
    args:
      {{- include "outrider.settings" . | nindent 6 }}
{{- end -}}

{{- /* Each front pod has room for one ingress, so a new one starts where an old one has stopped (rollout_surge).
Before that the Service has time to leave the old one out (leave_notice_s; the front's readiness probe). */ -}}
{{- define "outrider.settings" -}}
{{- $v := .Values -}}
{{- if has (int $v.metrics.port) (list 6379 8000 8080 8265) -}}
{{- fail (printf "metrics.port: %v is taken by Ray or by HTTP; choose another" $v.metrics.port) -}}
{{- end -}}
{{- $device := ternary "cuda" "cpu" (gt (float64 $v.target.pod.gpusPerRank) 0.0) -}}
{{- $target := mergeOverwrite (deepCopy $v.target.settings) (dict
  "model" $v.target.model
  "tp" $v.target.tensorParallel
  "num_gpus" $v.target.pod.gpusPerRank
  "resources" (dict "outrider_target" 1)
  "metrics_port" $v.metrics.port
  "drain_timeout_s" $v.target.drainTimeoutSeconds
  "runner" (mergeOverwrite (dict "device" $device) (deepCopy $v.target.runner))) -}}
{{- $_ := mergeOverwrite $target (include "outrider.number" (dict "role" "target" "values" $v.target) | fromYaml) -}}
{{- $front := mergeOverwrite (dict "leave_notice_s" 10) (deepCopy $v.front.settings) (dict
  "host" "0.0.0.0"
  "port" 8000
  "served_by" "ingress"
  "replicas" $v.front.replicas
  "rollout_surge" false
  "resources" (dict "outrider_ingress" 1)
  "metrics_port" $v.metrics.port
  "api" (deepCopy $v.front.api)) -}}
{{- if $v.front.apiKeys.name -}}
{{- $_ := set $front.api "api_keys_file" "/etc/outrider/api-keys/keys" -}}
{{- end -}}
{{- $settings := dict "name" "outrider" "target" $target "http" $front "scheduler" $v.scheduler -}}
{{- if include "outrider.drafts" . -}}
{{- $drafters := deepCopy $v.drafters.settings -}}
{{- $draftDevice := ternary "cuda" "cpu" (gt (float64 $v.drafters.pod.gpus) 0.0) -}}
{{- $_ := set $drafters "model" $v.drafters.model -}}
{{- $_ := set $drafters "num_gpus" $v.drafters.pod.gpus -}}
{{- $_ := set $drafters "resources" (dict "outrider_drafter" 1) -}}
{{- $_ := set $drafters "metrics_port" $v.metrics.port -}}
{{- $_ := set $drafters "runner" (mergeOverwrite (dict "device" $draftDevice) (default dict $drafters.runner)) -}}
{{- $_ := mergeOverwrite $drafters (include "outrider.number" (dict "role" "drafters" "values" $v.drafters) | fromYaml) -}}
{{- $_ := set $settings "drafters" $drafters -}}
{{- else -}}
{{- $_ := set $settings "drafters" (dict "model" "none") -}}
{{- end -}}
{{- if $v.tls.enabled -}}
{{- $files := dict
  "certificate" "/etc/outrider/tls/tls.crt"
  "key" "/etc/outrider/tls/tls.key"
  "authority" "/etc/outrider/tls/ca.crt" -}}
{{- $_ := set $settings "tls" $files -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "outrider.number" -}}
{{- if .values.autoscaling -}}
{{- $_ := required (printf "%s.autoscaling.max_replicas: how many there may be is missing" .role) .values.autoscaling.max_replicas -}}
{{- $least := int (default 1 .values.autoscaling.min_replicas) -}}
{{- if lt (int .values.autoscaling.max_replicas) $least -}}
{{- fail (printf "%s.autoscaling.max_replicas: %v is less than min_replicas, which is %d" .role .values.autoscaling.max_replicas $least) -}}
{{- end -}}
{{- toYaml (dict "autoscaling" .values.autoscaling) -}}
{{- else -}}
{{- toYaml (dict "replicas" .values.replicas) -}}
{{- end -}}
{{- end -}}
