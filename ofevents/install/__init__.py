"""The installation of the controller: its objects, its files, and putting them into a cluster.

`objects` is the one home of what an installation is made of. `ofevents install` applies
it, `make manifests` writes it as a kustomize base and a Helm chart. Called by the verbs
`install`, `uninstall`, `status` and `manifests`.
"""
