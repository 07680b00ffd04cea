{{- /* Where the controller is: `namespace`, else the release's; a release in `default` gets its own. */ -}}
{{- define "ofevents.namespace" -}}
{{- $release := ternary "ofevents-system" .Release.Namespace (eq .Release.Namespace "default") -}}
{{- default $release .Values.namespace -}}
{{- end -}}
