"""The controller: makes EventSources and Triggers run on Kubernetes, and says how they are."""
