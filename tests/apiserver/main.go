// The control plane of the tests: etcd, kube-apiserver and kube-controller-manager in one binary.
//
// The name it is called by says which one it is, so a folder with three links to it looks like the folder of
// official binaries that KUBEBUILDER_ASSETS names, and the harness (tests/it/world/kube.rs) starts either alike.
// It is built from source because a module proxy is reachable from more places than a download of binaries.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		run(controllers.NewControllerManagerCommand())
	default:
		fmt.Fprintf(os.Stderr, "called as %q: call it as etcd, kube-apiserver or kube-controller-manager\n", name)
		os.Exit(2)
	}
}

func run(command *cobra.Command) {
	os.Exit(cli.Run(command))
}
