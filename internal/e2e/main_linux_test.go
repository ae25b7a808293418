// Package e2e tests whole systems: the havip binary on hosts of a lab, next to
// real peers.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"

	// Linked in so that the result of a test is not taken from go test's cache when
	// the binary that it runs has changed.
	_ "github.com/havip/havip/internal/node"
	_ "github.com/havip/havip/vip/failover"
)

// TestMain keeps every havip of these tests from the machine's socket, and from what a
// havip there has noted down: hosts of a lab share its files. A test that asks or steers one
// names a socket of its own in the file.
func TestMain(m *testing.M) {
	os.Setenv("HAVIP_SOCKET", config.Off)
	os.Setenv("STATE_DIRECTORY", config.Off)
	lab.Main(m)
}

// havip builds the binary once for all tests and returns its path.
func havip(t testing.TB) string {
	t.Helper()
	return built(t, "cmd/havip")
}

// built builds one of the module's programs once for all tests and returns its path.
func built(t testing.TB, program string) string {
	t.Helper()
	once, _ := builds.LoadOrStore(program, sync.OnceValues(func() (string, error) { return build(program) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var builds sync.Map // by program: its build

func build(program string) (string, error) {
	dir, err := os.MkdirTemp("", "havip-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(program))
	out, err := exec.Command("go", "build", "-o", path, "github.com/havip/havip/"+program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return path, nil
}
