// Programs that run in the test cluster's Pods, each alone in an image made by
// tests/servers/kube_image.py. Standard library only.
module ofevents.tests/images

go 1.26.0
