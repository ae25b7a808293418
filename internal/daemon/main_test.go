package daemon

import (
	"testing"

	"github.com/havip/havip/internal/lab"
)

func TestMain(m *testing.M) {
	Main() // the tests' program is its own guard, too
	lab.Main(m)
}
