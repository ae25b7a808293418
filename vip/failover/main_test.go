package failover_test

import (
	"testing"

	"github.com/havip/havip/internal/lab"
)

func TestMain(m *testing.M) {
	lab.Main(m)
}
