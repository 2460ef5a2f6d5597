{{- /* The pod of one role. Takes a dict: root, role, pod (its values), container (name), ports, startup and readiness
(lists and maps to render), limits (extra resources such as GPUs), grace (seconds), tolerations, rayAccount (true: KubeRay's),
bare (true: neither models nor certificates). */ -}}
{{- define "outrider.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $tolerations := concat .pod.tolerations (.tolerations | default list) -}}
metadata:
  labels:
    {{- /* No versions: another chart or another name of the same image would be another cluster. */}}
    {{- include "outrider.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role | quote }}
    {{- with .pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .pod.annotations $tolerations }}
  annotations:
    {{- with .pod.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $tolerations }}
    {{- /* KubeRay does not look at tolerations when it asks whether a cluster has changed. */}}
    outrider/tolerations: {{ toJson . | sha256sum | trunc 16 | quote }}
    {{- end }}
  {{- end }}
spec:
  {{- if not .rayAccount }}
  serviceAccountName: {{ include "outrider.serviceAccountName" $root | quote }}
  {{- end }}
  automountServiceAccountToken: {{ .rayAccount | default false }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- if include "outrider.autoscales" $root }}
  restartPolicy: Never
  {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pod.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .pod.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with .pod.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pod.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pod.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container | quote }}
      image: {{ include "outrider.image" $root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy | quote }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      env:
        {{- include "outrider.env" $root | nindent 8 }}
        # How long Ray lets a node that is told to end finish; it is half a minute unless set.
        - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ sub .grace 10 | quote }}}
        {{- with .pod.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- toYaml .ports | nindent 8 }}
      {{- with .startup }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .readiness }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- $extra := .limits | default dict }}
        {{- toYaml (mergeOverwrite (deepCopy .pod.resources) (dict "requests" $extra "limits" $extra)) | nindent 8 }}
      volumeMounts:
        {{- include "outrider.mounts" (dict "root" $root "bare" .bare "role" .role) | nindent 8 }}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    {{- include "outrider.volumes" (dict "root" $root "bare" .bare "role" .role) | nindent 4 }}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ .pod.sharedMemory | quote }}}
{{- end -}}

{{- define "outrider.env" -}}
- {name: HOME, value: /tmp}
- {name: HF_HOME, value: /models/huggingface}
- {name: OUTRIDER_CACHE, value: /models/outrider}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
# Workers would run at niceness 15 and give way to everything else on the node.
- {name: RAY_worker_niceness, value: "0"}
- {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
- {name: RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS, value: "1"}
{{- if .Values.modelCache.offline }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- with .Values.huggingFace.tokenSecret }}
{{- if .name }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrider.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if not .bare }}
- {name: models, mountPath: /models}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/outrider/tls, readOnly: true}
{{- end }}
{{- if and (eq .role "front") .root.Values.front.apiKeys.name }}
- {name: api-keys, mountPath: /etc/outrider/api-keys, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "outrider.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if not .bare }}
- name: models
  {{- if eq .root.Values.modelCache.type "claim" }}
  persistentVolumeClaim: {claimName: {{ include "outrider.cacheClaim" .root | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .root.Values.modelCache.sizeLimit | quote }}}
  {{- end }}
{{- if .root.Values.tls.enabled }}
{{- /* Its own role's and no other: a drafter's pod holds nothing that opens a target. */}}
- name: tls
  secret: {secretName: {{ include "outrider.tlsSecret" (dict "root" .root "role" (.role | replace "front" "ingress")) | quote }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.front.apiKeys }}
{{- if and (eq $.role "front") .name }}
- name: api-keys
  secret: {secretName: {{ .name | quote }}, defaultMode: 0440, items: [{key: {{ .key | quote }}, path: keys}]}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
