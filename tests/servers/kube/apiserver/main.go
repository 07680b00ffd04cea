// Command apiserver is a kube-apiserver with nothing else beside it: it needs an etcd.
// tests/servers/kube_api.py builds and runs it; other components of a cluster are
// further commands of this module.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
