package failover_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

// leaderRole in the environment makes the tests' program elect a leader.
const leaderRole = "HAVIP_TEST_LEADER"

func TestMain(m *testing.M) {
	if os.Getenv(leaderRole) == "" {
		lab.Main(m)
		return
	}
	cfg := config()
	cfg.VIP = vip.Config{Interface: cfg.VIP.Interface}
	cfg.VRRP.OnTransition = func(t vrrp.Transition) { fmt.Println("now", t.To) }
	fmt.Println(failover.Run(context.Background(), cfg))
}
