package failover_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/failover"
	"github.com/havip/havip/vrrp"
)

// bound is for what happens soon on an idle machine.
const bound = 30 * time.Second

// shared is the address of the tests.
var shared = netip.MustParsePrefix("192.168.31.250/24")

// config is the configuration of a Node that is Active within half a second.
func config() failover.Config {
	return failover.Config{
		VRRP: vrrp.Config{VRID: 51, Interval: 100 * time.Millisecond},
		VIP:  vip.Config{Interface: "eth0", Addresses: []vip.Address{{Prefix: shared}}},
	}
}

// steady is the configuration of a Node that a late machine does not make step down.
func steady() failover.Config {
	cfg := config()
	cfg.VRRP.Interval, cfg.VIP.Lease = time.Second, 20*time.Second
	return cfg
}

// newNode makes a Node on a host, and closes it when the test ends.
func newNode(t *testing.T, h *lab.Host, cfg failover.Config) *failover.Node {
	t.Helper()
	var n *failover.Node
	if err := h.Do(func() (err error) {
		n, err = failover.New(cfg)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// run runs a Node until end is called, which returns Run's error.
func run(t *testing.T, n *failover.Node) (end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// awaits waits until a Node is in a state, and its host has the address or not.
func awaits(t *testing.T, h *lab.Host, n *failover.Node, state vrrp.State, holds bool) {
	t.Helper()
	lab.Until(t, bound, state.String(), func() bool {
		return n.Router().Status().State == state && h.Holds(shared.Addr()) == holds
	})
}

// TestRunAndClose: a Node runs once, ends once, and is of no use after that; none of its
// methods waits for ever or panics, in whatever order they are called.
func TestRunAndClose(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	n := newNode(t, h, config())
	if h.Holds(shared.Addr()) || n.Reserved() {
		t.Error("New has touched the address")
	}
	if err := n.Reconfigure(t.Context(), config()); !errors.Is(err, failover.ErrNotRunning) {
		t.Errorf("Reconfigure before Run: %v, want %v", err, failover.ErrNotRunning)
	}
	end := run(t, n)
	awaits(t, h, n, vrrp.Active, true)
	if err := n.Run(t.Context()); !errors.Is(err, failover.ErrRunning) {
		t.Errorf("Run twice: %v, want %v", err, failover.ErrRunning)
	}
	if err := n.Close(); err != nil || h.Holds(shared.Addr()) {
		t.Errorf("Close while Run runs: %v; the address is still there: %v", err, h.Holds(shared.Addr()))
	}
	if err := end(); err != nil {
		t.Errorf("Run ended by Close: %v", err)
	}
	if err := n.Run(t.Context()); !errors.Is(err, failover.ErrClosed) {
		t.Errorf("Run after its end: %v, want %v", err, failover.ErrClosed)
	}
	if err := n.Reconfigure(t.Context(), config()); !errors.Is(err, failover.ErrClosed) {
		t.Errorf("Reconfigure after the end: %v, want %v", err, failover.ErrClosed)
	}
	if err := n.Close(); err != nil {
		t.Errorf("Close after the end: %v", err)
	}

	n = newNode(t, h, config())
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if err := n.Run(t.Context()); !errors.Is(err, failover.ErrClosed) {
		t.Errorf("Run after Close: %v, want %v", err, failover.ErrClosed)
	}
}

// TestCloseTouchesNothing: to close a Node that has not run takes off no address, not
// even one of its own that is there.
func TestCloseTouchesNothing(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	n := newNode(t, h, steady())
	run(t, n)
	awaits(t, h, n, vrrp.Active, true)
	cfg := config()
	cfg.VRRP.VRID = 52
	newNode(t, h, cfg).Close()
	if s := n.Manager().Status(); !h.Holds(shared.Addr()) || s.Reinstated != 0 {
		t.Errorf("the address was taken off: %+v", s)
	}
}

// TestCloseLeavesGroup: a Node that will not run keeps no other member of its group from
// running.
func TestCloseLeavesGroup(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	cfg := config()
	cfg.VRRP.Group = vrrp.NewGroup("g")
	other := cfg
	other.VRRP.VRID, other.VIP.Addresses = 52, nil
	n, idle := newNode(t, h, cfg), newNode(t, h, other)
	run(t, n)
	awaits(t, h, n, vrrp.Backup, false)
	idle.Close()
	awaits(t, h, n, vrrp.Active, true)
}

// TestReservation: a second program of the host waits for the first, and reports that. The
// address of the first stays where it is.
func TestReservation(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	one := newNode(t, h, steady())
	end := run(t, one)
	awaits(t, h, one, vrrp.Active, true)
	retries := make(chan error, 100)
	cfg := config()
	cfg.OnRetry = func(err error, _ time.Duration) { retries <- err }
	two := newNode(t, h, cfg)
	run(t, two)
	if err := <-retries; !strings.Contains(err.Error(), "VRID 51") {
		t.Errorf("told %v, want who has VRID 51", err)
	}
	if s := one.Manager().Status(); !h.Holds(shared.Addr()) || s.Reinstated != 0 || two.Reserved() {
		t.Errorf("the second Node has touched the address, or runs: %+v", s)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	awaits(t, h, two, vrrp.Active, true)
}

// TestReconfigure: other addresses and timers take the place of the former ones while
// the Node serves, and after an error nothing has changed.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24", "192.168.31.252/24")
	n := newNode(t, h, steady())
	run(t, n)
	awaits(t, h, n, vrrp.Active, true)
	since, will := n.Router().Status().Since, n.Removals()
	next := steady()
	next.VRRP.Priority = 200
	next.VIP.Addresses = append(next.VIP.Addresses, vip.Address{Prefix: netip.MustParsePrefix("192.168.31.251/24")})
	if err := n.Reconfigure(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if s := n.Router().Status(); s.Since != since || s.Priority != 200 || !h.Holds(shared.Addr()) || !h.Holds(netip.MustParseAddr("192.168.31.251")) {
		t.Errorf("after a change: %+v", s)
	}
	if n.Removals().Requests == nil || reflect.DeepEqual(will, n.Removals()) {
		t.Error("the will does not remove the new address")
	}

	taken := next
	taken.VRRP.Priority = 210
	taken.VIP.Addresses = []vip.Address{{Prefix: netip.MustParsePrefix("192.168.31.252/24")}}
	if err := n.Reconfigure(t.Context(), taken); !errors.Is(err, vip.ErrInUse) {
		t.Errorf("with another program's address: %v, want %v", err, vip.ErrInUse)
	}
	fixed := next
	fixed.VRRP.VRID = 52
	if err := n.Reconfigure(t.Context(), fixed); err == nil || !strings.Contains(err.Error(), "VRRP.VRID") {
		t.Errorf("with another VRID: %v, want an error that names it", err)
	}
	wrong := next
	wrong.VRRP.Interval = time.Hour
	if err := n.Reconfigure(t.Context(), wrong); !errors.As(err, new(*failover.FieldError)) {
		t.Errorf("with an interval of an hour: %v, want a FieldError", err)
	}
	if s := n.Router().Status(); s.Since != since || s.Priority != 200 || !h.Holds(shared.Addr()) {
		t.Errorf("after errors: %+v", s)
	}
}

// TestCheck: each obstacle is reported beforehand, and nothing is touched.
func TestCheck(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24", "192.168.31.252/24")
	check := func(change func(*failover.Config)) error {
		cfg := config()
		change(&cfg)
		return h.Do(func() error { return failover.Check(cfg) })
	}
	if err := check(func(*failover.Config) {}); err != nil || h.Holds(shared.Addr()) {
		t.Errorf("nothing is in the way, but: %v", err)
	}
	if err := check(func(c *failover.Config) { c.VIP.Interface = "eth7" }); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("without the interface: %v", err)
	}
	if err := check(func(c *failover.Config) {
		c.VIP.Addresses = []vip.Address{{Prefix: netip.MustParsePrefix("192.168.31.250/24"), Interface: "eth7"}}
	}); !errors.Is(err, vip.ErrNoInterface) {
		t.Errorf("without an address's interface: %v, want %v", err, vip.ErrNoInterface)
	}
}

// TestLeaderWithoutAddress: without an address one Node at a time is Active all the
// same, and no address is put anywhere.
func TestLeaderWithoutAddress(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")
	cfg := config()
	cfg.VIP.Addresses = nil
	one := newNode(t, a, cfg)
	end := run(t, one)
	awaits(t, a, one, vrrp.Active, false)
	two := newNode(t, b, cfg)
	run(t, two)
	awaits(t, b, two, vrrp.Backup, false)
	if err := end(); err != nil {
		t.Error(err)
	}
	awaits(t, b, two, vrrp.Active, false)
}

// TestLeaderNeedsFewPrivileges: without an address CAP_NET_RAW is enough.
func TestLeaderNeedsFewPrivileges(t *testing.T) {
	lab.Need(t, "setpriv")
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("setpriv", "--bounding-set=-all,+net_raw", exe)
	cmd.Env = []string{leaderRole + "=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "it leads", func() bool { return strings.Contains(cmd.Output(), "now Active") })
}

// TestSharedConnCloses: a Conn that is closed under a Node ends the Node with an error,
// as it would fail for ever, and leaves no address.
func TestSharedConnCloses(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	cfg := config()
	if err := h.Do(func() (err error) {
		cfg.Conn, err = vrrp.Listen(vrrp.ListenConfig{Interface: "eth0"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, h, cfg)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(t.Context()) }()
	awaits(t, h, n, vrrp.Active, true)
	cfg.Conn.Close()
	if err := <-ended; !errors.Is(err, vrrp.ErrClosed) || h.Holds(shared.Addr()) {
		t.Errorf("Run: %v, want %v; the address is still there: %v", err, vrrp.ErrClosed, h.Holds(shared.Addr()))
	}
	if err := newNode(t, h, cfg).Run(t.Context()); !errors.Is(err, vrrp.ErrClosed) {
		t.Errorf("Run on a Conn that is closed: %v, want %v", err, vrrp.ErrClosed)
	}
}
