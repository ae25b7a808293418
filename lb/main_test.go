package lb

import (
	"os"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// TestMain also is the main function of a load balancer that a test runs as
// a process of its own, in a host of a lab.
func TestMain(m *testing.M) {
	if config := os.Getenv(nodeVar); config != "" {
		os.Exit(nodeMain(config))
	}
	lab.Main(m)
}
