package vrrp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestReconfigureAuth: the ways from one authentication to another, on one router after
// the other, without a transition and without an advertisement that is lost.
func TestReconfigureAuth(t *testing.T) {
	signed := func(active uint8, mode HMACMode, keys ...Key) Auth {
		return Auth{Type: AuthHMAC, HMAC: HMACConfig{Keys: keys, ActiveKey: active, Mode: mode}}
	}
	for name, test := range map[string]struct {
		version uint8
		steps   []Auth
		drops   DropReason // what may be lost on the way
	}{
		"HMAC rotation": {3, []Auth{
			signed(1, HMACEnforce, key1), signed(1, HMACEnforce, key1, key2), signed(2, HMACEnforce, key1, key2), signed(2, HMACEnforce, key2),
		}, 0},
		"from nothing to HMAC": {3, []Auth{
			{}, signed(1, HMACReceiveOnly, key1), signed(1, HMACPermissive, key1), signed(1, HMACEnforce, key1),
		}, 0},
		"PASS": {2, []Auth{{Type: AuthPass, Password: "one"}, {Type: AuthPass, Password: "two"}}, DropAuth},
		"AH":   {2, []Auth{{Type: AuthAH, Password: "one"}, {Type: AuthAH, Password: "two"}}, DropAuth},
		"none": {2, []Auth{{Type: AuthPass, Password: "one"}, {}}, DropAuthType},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				cfg := Config{Version: test.version, Auth: test.steps[0], Priority: 120}
				a := lan.node(t, 1, cfg)
				cfg.Priority = 110
				b := lan.node(t, 2, cfg)
				time.Sleep(10 * time.Second)
				changes := func() int { return len(a.history()) + len(b.history()) }
				before := changes()
				for _, next := range test.steps[1:] {
					for _, n := range []*node{a, b} {
						if err := n.reconfigure(func(c *Config) { c.Auth = next }); err != nil {
							t.Fatal(err)
						}
						// With a password one advertisement is not understood.
						time.Sleep(1500 * time.Millisecond)
					}
				}
				synctest.Wait()
				a.is(Active)
				b.is(Backup)
				if got := changes(); got != before {
					t.Errorf("transitions: %v, %v", a.history(), b.history())
				}
				dropped := b.Status().Counters.Dropped
				for reason, n := range dropped {
					if reason != test.drops || n > 2 {
						t.Errorf("%d advertisements discarded: %v", n, reason)
					}
				}
				if test.drops != 0 && dropped[test.drops] == 0 {
					t.Errorf("no advertisement discarded: %v", test.drops)
				}
				// The last step counts, and sequence numbers have gone on.
				a.stop()
				time.Sleep(skew3(110))
				b.is(Active)
			})
		})
	}
}

func TestReconfigureAuthErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.node(t, 1, Config{Version: 2, Priority: 120, Auth: Auth{Type: AuthPass, Password: "one"}}),
			lan.node(t, 2, Config{Version: 2, Priority: 110, Auth: Auth{Type: AuthPass, Password: "one"}})
		for _, test := range []struct {
			auth Auth
			want string
		}{
			{Auth{Type: AuthPass}, "vrrp: 51/IPv4: Auth.Password: missing: want a password"},
			{Auth{Type: AuthAH, Password: "one"}, "vrrp: 51/IPv4: Auth cannot be changed: make another Router"},
		} {
			if err := a.reconfigure(func(c *Config) { c.Auth = test.auth }); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Reconfigure with %v = %v, want %q", test.auth.Type, err, test.want)
			}
		}
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Backup)
	})
}

// TestReconfigureAuthKeepsMarks: with another key an old advertisement is still a replay,
// and the own sequence goes on.
func TestReconfigureAuthKeepsMarks(t *testing.T) {
	for name, test := range map[string]struct {
		version uint8
		auths   [2]Auth
	}{
		"HMAC": {3, [2]Auth{
			{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{key1}}},
			{Type: AuthHMAC, HMAC: HMACConfig{Keys: []Key{key1, key2}}},
		}},
		"HMAC monotonic": {3, [2]Auth{
			{Type: AuthHMAC, HMAC: HMACConfig{Replay: ReplayMonotonic, Keys: []Key{key1}}},
			{Type: AuthHMAC, HMAC: HMACConfig{Replay: ReplayMonotonic, Keys: []Key{key1, key2}}},
		}},
		"AH": {2, [2]Auth{{Type: AuthAH, Password: "one"}, {Type: AuthAH, Password: "one"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				a := lan.node(t, 1, Config{Version: test.version, Priority: 255, Auth: test.auths[0]})
				b := lan.prepare(t, 2, Config{Version: test.version, Priority: 110, Auth: test.auths[0]})
				recorded := []Packet{}
				for _, p := range []*fakePort{a.net.opened[len(a.net.opened)-1]} {
					p.Refuse = func(p Packet) error {
						p.Data = append([]byte(nil), p.Data...)
						p.Header = append([]byte(nil), p.Header...)
						recorded = append(recorded, p)
						return nil
					}
				}
				b.run()
				time.Sleep(3500 * time.Millisecond)
				if err := b.reconfigure(func(c *Config) { c.Auth = test.auths[1] }); err != nil {
					t.Fatal(err)
				}
				lan.Mu.Lock()
				b.net.opened[len(b.net.opened)-1].Receive(recorded[0])
				lan.Mu.Unlock()
				synctest.Wait()
				if got := b.Status().Counters.Dropped[DropReplay]; got != 1 {
					t.Errorf("%d replays noticed, want 1", got)
				}
				if err := a.reconfigure(func(c *Config) { c.Auth = test.auths[1] }); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				b.is(Backup)
				c := b.Status().Counters
				if c.Received != 7 || c.Dropped[DropReplay] != 1 { // one more with the change
					t.Errorf("received %d, dropped %v: want 7, and the replay", c.Received, c.Dropped)
				}
			})
		})
	}
}

// TestReconfigureAuthKeepsSequence: the own sequence numbers go on, too, however far they
// are ahead of the clock.
func TestReconfigureAuthKeepsSequence(t *testing.T) {
	cfg := configFor(t, advV3, hmacWith(HMACConfig{Keys: []Key{key1}, Replay: ReplayMonotonic}))
	w := wireFor(t, cfg)
	w.hmac.sent = clockSequence(clock.Add(time.Hour))
	w.configure()
	if got, want := sequence(send(t, w, 100, host4, groupIPv4, clock)), clockSequence(clock.Add(time.Hour))+1; got != want {
		t.Errorf("HMAC: sequence %#x, want %#x", got, want)
	}
	w = wireFor(t, configFor(t, advV2, auth(AuthAH, "d0cker")))
	w.ah.sent = uint32(clock.Add(time.Hour).Unix())
	before := w.ah.sent
	w.configure()
	if got := w.ah.nextSequence(clock); got <= before {
		t.Errorf("AH: sequence %d after %d", got, before)
	}

	// Nothing is left of a password.
	w = wireFor(t, configFor(t, advV2, auth(AuthPass, "d0cker")))
	w.cfg.Auth = Auth{}
	w.configure()
	a, err := ParseAdvertisement(send(t, w, 100, host4, groupIPv4, clock).Data, host4, groupIPv4)
	if err != nil || a.AuthType != 0 || a.AuthData != [8]byte{} {
		t.Errorf("without authentication: type %d, data %q, %v", a.AuthType, a.AuthData, err)
	}
}
