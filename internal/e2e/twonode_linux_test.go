package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

// TestTwoNodeExample: the files in examples/twonode, as they are, pass the four
// acceptance runs. There VRRP and the balancer are one process, so in run 4 the
// balancer takes the process with it, and the guard is the one to say goodbye.
func TestTwoNodeExample(t *testing.T) {
	t.Parallel()
	lab.Need(t, "nginx", "sleep")
	exe := havip(t)
	whole := func(n *scenario.Node, _ string) ([]string, error) {
		file := map[string]string{"LB-01": "lb01.yaml", "LB-02": "lb02.yaml"}[n.Name]
		if file == "" {
			return nil, fmt.Errorf("no file for %s", n.Name)
		}
		path, err := filepath.Abs(filepath.Join("../../examples/twonode", file))
		return []string{exe, "run", "-c", path}, err
	}
	nothing := func(*scenario.Node, string) ([]string, error) { return []string{"sleep", "600"}, nil }
	acceptance(t, scenario.Config{
		Params:   scenario.Params{Interval: time.Second, Version: 2},
		VRRP:     [2]scenario.Program{nothing, nothing},
		Balancer: [2]scenario.Program{whole, whole},
		Backends: nginxBackends,
		Private:  true,
	})
}
