package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
	"github.com/havip/havip/vrrp/vrrptest"
)

// scene is the Manager, the guard and the router of a will. It records their calls in order.
type scene struct {
	manager       // of which a will uses what follows
	fails   error // Acquire and Release

	mu      sync.Mutex // against the will's timer
	log     []string
	expires time.Duration
	leaves  bool // the router hands over
}

func (s *scene) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// expire says for how long packets are good; 0: there are none.
func (s *scene) expire(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires = d
}

func (s *scene) leave(leaves bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaves = leaves
}

func (s *scene) Acquire(context.Context) error  { s.note("acquire"); return s.fails }
func (s *scene) Announce(context.Context) error { return nil }
func (s *scene) Release(context.Context) error  { s.note("release"); return s.fails }

func (s *scene) Farewell() ([]vrrp.Packet, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaves {
		return nil, 0, vrrp.ErrNotActive
	}
	if s.expires == 0 {
		return nil, 0, errors.New("no address")
	}
	dst := netip.MustParseAddr("224.0.0.18")
	return []vrrp.Packet{{Source: netip.MustParseAddr("192.0.2.1"), Destination: dst, Data: []byte("bye")}}, s.expires, nil
}

func (s *scene) Set(_ string, w guard.Will) error {
	var words []string
	for _, r := range w.Requests {
		words = append(words, string(r))
	}
	for _, r := range slices.Concat(w.Filters, w.Settings) {
		words = append(words, string(r))
	}
	for _, p := range w.Packets {
		words = append(words, string(p.Payload))
	}
	s.note("will: %s", strings.Join(words, ", "))
	return nil
}

// want checks what has happened since the last time.
func (s *scene) want(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := strings.Join(s.log, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.log = nil
}

// TestWill: the will is written before the addresses and the state change, and what may be
// on the interface stays in it until it has certainly gone.
func TestWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{expires: time.Hour}
		w := &will{name: "VI_1", log: slog.New(slog.DiscardHandler), manager: s, guard: s, router: s}
		w.setRemovals(vip.Removals{
			Requests: [][]byte{[]byte("remove a")}, Filters: [][]byte{[]byte("accept")}, Settings: [][]byte{[]byte("set")},
		})
		s.want(t, "will: remove a, accept, set")
		w.setRemovals(vip.Removals{Requests: [][]byte{[]byte("remove a")}})
		s.want(t, "will: remove a")

		w.Acquire(t.Context())
		s.want(t, "will: remove a, bye", "acquire")
		w.setRemovals(vip.Removals{Requests: [][]byte{[]byte("remove a"), []byte("remove b")}})
		s.want(t, "will: remove a, remove b, bye")
		time.Sleep(refreshTime)
		synctest.Wait()
		s.want(t, "will: remove a, remove b, bye")
		w.Release(t.Context())
		s.want(t, "will: remove a, remove b", "release")
		time.Sleep(time.Minute)
		s.want(t)

		s.fails = errors.New("netlink: no")
		w.Acquire(t.Context())
		s.want(t, "will: remove a, remove b, bye", "acquire", "will: remove a, remove b")
		w.Release(t.Context())
		s.want(t, "will: remove a, remove b", "release")
		w.withdraw()
		s.want(t, "will: ")
		w.setRemovals(vip.Removals{Requests: [][]byte{[]byte("late")}})
		w.refresh()
		s.want(t)
	})
}

// TestWillAfterHandOver: a will that was refreshed while the router handed over has a
// farewell again as soon as the router goes on. Other announcements cost the guard nothing.
func TestWillAfterHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{expires: time.Hour}
		w := &will{log: slog.New(slog.DiscardHandler), manager: s, guard: s, router: s}
		w.Acquire(t.Context())
		w.Announce(t.Context())
		s.want(t, "will: bye", "acquire")
		s.leave(true)
		time.Sleep(refreshTime)
		synctest.Wait()
		s.want(t, "will: ")
		s.leave(false)
		w.Announce(t.Context())
		w.Announce(t.Context())
		s.want(t, "will: bye")
		s.leave(true)
		w.refresh()
		w.Release(t.Context())
		w.Announce(t.Context())
		s.want(t, "will: ", "will: ", "release")
		w.withdraw()
	})
}

// Authenticated packets go stale: they are replaced after half their time. A farewell that
// cannot be made now may be possible soon.
func TestWillStaysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{expires: 3 * time.Second}
		w := &will{log: slog.New(slog.DiscardHandler), manager: s, guard: s, router: s}
		w.Acquire(t.Context())
		s.want(t, "will: bye", "acquire")
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		s.want(t, "will: bye")
		s.expire(0)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		s.want(t, "will: ")
		s.expire(time.Hour)
		time.Sleep(refreshTime)
		synctest.Wait()
		s.want(t, "will: bye")
		w.withdraw()
		s.want(t, "will: ")
		time.Sleep(time.Minute)
		synctest.Wait()
		s.want(t)
	})
}

// TestFarewellIsValid: a guard takes whatever farewell a router has.
func TestFarewellIsValid(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		cfg  vrrp.Config
	}{
		"IPv4":                {"192.0.2.1", vrrp.Config{}},
		"IPv4, unicast":       {"192.0.2.1", vrrp.Config{Peers: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")}, TTL: 7}},
		"IPv4, password":      {"192.0.2.1", vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthPass, Password: "d0cker"}}},
		"IPv4, AH":            {"192.0.2.1", vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}}},
		"IPv4, AH, unicast":   {"192.0.2.1", vrrp.Config{Version: 2, Auth: vrrp.Auth{Type: vrrp.AuthAH, Password: "d0cker"}, Peers: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, TTL: 7}},
		"IPv4, HMAC":          {"192.0.2.1", vrrp.Config{Auth: vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{Keys: []vrrp.Key{{ID: 1, Secret: make([]byte, 32)}}}}}},
		"IPv6":                {"fe80::1", vrrp.Config{IPv6: true}},
		"IPv6, unicast":       {"fe80::1", vrrp.Config{IPv6: true, Peers: []netip.Addr{netip.MustParseAddr("fe80::2"), netip.MustParseAddr("2001:db8::2")}}},
		"IPv6, unicast, HMAC": {"2001:db8::1", vrrp.Config{IPv6: true, Peers: []netip.Addr{netip.MustParseAddr("2001:db8::2")}, Auth: vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{Keys: []vrrp.Key{{ID: 1, Secret: make([]byte, 32)}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.cfg.VRID = 51
				w := &will{router: vrrptest.NewLAN().Host(c.host).Start(t, c.cfg, nil), log: slog.New(slog.DiscardHandler)}
				time.Sleep(10 * time.Second)
				packets, _ := w.farewell()
				if want := max(1, len(c.cfg.Peers)); len(packets) != want {
					t.Errorf("%d packets, want %d", len(packets), want)
				}
				if err := (guard.Will{Packets: packets}).Validate(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWillWithoutFarewell: a guard that refuses the farewell still takes the removals,
// without which an address would outlive the process.
func TestWillWithoutFarewell(t *testing.T) {
	s := &scene{expires: time.Hour}
	w := &will{log: slog.New(slog.DiscardHandler), manager: s, guard: strict{s}, router: s}
	w.Acquire(t.Context())
	w.setRemovals(vip.Removals{Requests: [][]byte{[]byte("remove a")}})
	w.withdraw()
	s.want(t, "will: ", "acquire", "will: remove a", "will: ")
}

// strict is a guard that takes no packets.
type strict struct{ *scene }

func (s strict) Set(name string, w guard.Will) error {
	if len(w.Packets) > 0 {
		return errors.New("no packets")
	}
	return s.scene.Set(name, w)
}

// TestWillOfOneThatSteppedDown: a router that has just stepped down has no farewell, which
// is no fault; any other reason is logged.
func TestWillOfOneThatSteppedDown(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		says bool
	}{
		"stepped down": {fmt.Errorf("vrrp: VI_1: farewell: %w", vrrp.ErrNotActive), false},
		"no address":   {errors.New("no address"), true},
	} {
		var log strings.Builder
		w := &will{manager: &scene{}, guard: &scene{}, router: silent{test.err}, log: slog.New(slog.NewTextHandler(&log, nil))}
		w.Acquire(t.Context())
		w.withdraw()
		if said := log.Len() > 0; said != test.says {
			t.Errorf("%s: the log has %q", name, log.String())
		}
	}
}

// silent is a router that has no farewell.
type silent struct{ err error }

func (s silent) Farewell() ([]vrrp.Packet, time.Duration, error) { return nil, 0, s.err }
