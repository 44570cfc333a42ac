{{/* What the objects of a release are called. */}}
{{- define "agno-session.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agno-session.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* By what a Service finds its pods; the component keeps the migration's pods out. */}}
{{- define "agno-session.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "agno-session.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* Refuses values that say nowhere, or not clearly, where the sessions are. */}}
{{- define "agno-session.check" -}}
{{- with .Values.config -}}
{{- if and .existingSecret (not .existingSecretKeys.dsn) (not .existingSecretKeys.dsnMap) -}}
{{- fail "config.existingSecretKeys: name the key of the Secret, as dsn or as dsnMap" -}}
{{- end -}}
{{- if not (or .existingSecret .dsnMap .dsn) -}}
{{- fail "config: say where the sessions are, by existingSecret, dsn or dsnMap" -}}
{{- end -}}
{{- if and (not .existingSecret) .dsnMap -}}
{{- if and (gt (len .dsnMap) 1) (not .defaultDbId) -}}
{{- fail "config.defaultDbId: say which of config.dsnMap is the default; Helm keeps no order of them" -}}
{{- end -}}
{{- if and .defaultDbId (not (hasKey .dsnMap .defaultDbId)) -}}
{{- fail (printf "config.defaultDbId: config.dsnMap has no %s" .defaultDbId) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the chart's own Secret holds. */}}
{{- define "agno-session.urls" -}}
{{- with .Values.config -}}
{{- if .dsnMap -}}
dsn-map: {{ .dsnMap | toJson | quote }}
{{- else -}}
dsn: {{ .dsn | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings of a container. Takes root, and secret: what the chart's own Secret is called. */}}
{{- define "agno-session.env" -}}
- name: AGNO_SERVICE_PORT
  value: "8080"
{{- with .root.Values.config }}
{{- if .existingSecret }}
{{- if .existingSecretKeys.dsnMap }}
- name: AGNO_SESSION_DSN_MAP
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .existingSecretKeys.dsnMap }}
{{- else }}
- name: AGNO_PG_DSN
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .existingSecretKeys.dsn }}
{{- end }}
{{- else if .dsnMap }}
- name: AGNO_SESSION_DSN_MAP
  valueFrom:
    secretKeyRef:
      name: {{ $.secret }}
      key: dsn-map
{{- else }}
- name: AGNO_PG_DSN
  valueFrom:
    secretKeyRef:
      name: {{ $.secret }}
      key: dsn
{{- end }}
{{- if .defaultDbId }}
- name: AGNO_DEFAULT_DB_ID
  value: {{ .defaultDbId | quote }}
{{- end }}
{{- end }}
{{- if .root.Values.env }}
{{ toYaml .root.Values.env }}
{{- end }}
{{- end -}}

{{/* Who a pod is: nobody, with no rights. */}}
{{- define "agno-session.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "agno-session.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
