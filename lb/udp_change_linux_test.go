package lb

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"
)

func TestUDPMovesFromABackendThatIsGone(t *testing.T) {
	gone := closedUDP(t)
	u := udpWith(UDPConfig{})
	addr, _ := relayUDP(t, u, gone, named(t, "b"), named(t, "c"))
	c := dialUDPTest(t, addr)
	if got := ask(t, c, "1"); got != "b1" {
		t.Errorf("got %q", got)
	}
	if st := u.Pool.Status().Backends[0]; !st.Ejected {
		t.Errorf("the one that is gone: %+v", st)
	}
	u.Pool.SetHealth(u.Pool.Status().Backends[1].Name, errDown)
	if got := ask(t, c, "2"); got != "c2" {
		t.Errorf("after its backend went down the session gets %q", got)
	}
}

// What has no address, or cannot be connected to, is not the end: others are alive.
func TestUDPGoesOnToTheNextBackend(t *testing.T) {
	for name, bad := range map[string]Backend{
		"not resolved":   {Address: "name.invalid:53"},
		"cannot connect": {Address: "127.255.255.255:53"}, // a broadcast address: EACCES
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, PoolConfig{Balance: SourceHash, Backends: []Backend{bad, named(t, "good ")}})
			recorded := 0
			u := udpWith(UDPConfig{Pool: pool, Record: func(r Record) { recorded += r.Retries }})
			addr, stop := relayUDP(t, u)
			for i := byte(0); u.Stats().Retries == 0 && i < 100; i++ { // until the hash gives a client the bad one
				if got := ask(t, dialUDPFromAddr(t, net.IPv4(127, 1, 0, i), addr), "x"); got != "good x" {
					t.Fatalf("got %q", got)
				}
			}
			if u.Stats().Retries == 0 {
				t.Error("the bad one was never tried")
			}
			st := pool.Status().Backends
			if name == "cannot connect" && !st[0].Ejected {
				t.Errorf("%+v, want it ejected", st[0])
			}
			if name == "not resolved" && st[0].Failures != 0 || st[0].Active != 0 || st[1].Failures != 0 {
				t.Errorf("%+v", st)
			}
			if stop(); uint64(recorded) != u.Stats().Retries {
				t.Errorf("%d retries are in records, want %d", recorded, u.Stats().Retries)
			}
		})
	}
}

// Removal, drain and going down end or move a session by the rules of PoolConfig,
// whether it sends anything or not.
func TestUDPBackendLeaves(t *testing.T) {
	remove := func(p *Pool, a, b Backend) {
		if err := p.Update([]Backend{b}); err != nil {
			t.Fatal(err)
		}
	}
	drain := func(p *Pool, a, _ Backend) { p.SetDrain(a.Address, true) }
	down := func(p *Pool, a, _ Backend) { p.SetHealth(a.Address, errDown) }
	for name, tt := range map[string]struct {
		cfg   PoolConfig
		leave func(p *Pool, a, b Backend)
		ends  bool   // without a further datagram
		then  string // who gets the next datagram
	}{
		"removed":                     {PoolConfig{}, remove, false, "a"},
		"removed, with a deadline":    {PoolConfig{DrainTimeout: time.Millisecond}, remove, true, "b"},
		"drained":                     {PoolConfig{}, drain, false, "a"},
		"drained, with a deadline":    {PoolConfig{DrainTimeout: time.Millisecond}, drain, true, "b"},
		"down":                        {PoolConfig{}, down, false, "b"},
		"down, with KillOnDown":       {PoolConfig{KillOnDown: true}, down, true, "b"},
		"down, and not in use before": {PoolConfig{}, func(p *Pool, a, b Backend) { down(p, a, b); remove(p, a, b) }, false, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := named(t, "a"), named(t, "b")
			tt.cfg.Backends = []Backend{a, b}
			records := make(chan Record, 10)
			u := udpWith(UDPConfig{Pool: newPool(t, tt.cfg), Record: func(r Record) { records <- r }})
			addr, _ := relayUDP(t, u)
			c := dialUDPTest(t, addr)
			if got := ask(t, c, "1"); got != "a1" {
				t.Fatalf("got %q at first", got)
			}
			// Another configuration must not make the plane forget the old pool, nor must the
			// garbage collector make the pool forget the plane.
			if err := u.Reconfigure(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{b}})}); err != nil {
				t.Fatal(err)
			}
			ask(t, dialUDPTest(t, addr), "0")
			runtime.GC()
			tt.leave(u.Pool, a, b)
			if tt.ends {
				if r := nextRecord(t, records); r.Reason != "cut" || r.Client.String() != c.LocalAddr().String() {
					t.Errorf("record %+v", r)
				}
			}
			if got := ask(t, c, "2"); got != tt.then+"2" {
				t.Errorf("got %q, want it from %s", got, tt.then)
			}
		})
	}
}

func TestUDPReconfigure(t *testing.T) {
	u := udpWith(UDPConfig{})
	addr, _ := relayUDP(t, u, named(t, "a"))
	old := dialUDPTest(t, addr)
	ask(t, old, "1")
	if err := u.Reconfigure(UDPConfig{}); err == nil {
		t.Error("a configuration without a pool is taken")
	}
	if err := u.Reconfigure(UDPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{named(t, "b")}})}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, old, "2"); got != "a2" {
		t.Errorf("the old session gets %q", got)
	}
	if got := ask(t, dialUDPTest(t, addr), "3"); got != "b3" {
		t.Errorf("a new one gets %q", got)
	}
	if st := u.Stats(); st.Accepted != 2 || st.Active != 2 {
		t.Errorf("%+v, want both sessions counted", st)
	}
}

func TestUDPReconfigureLimits(t *testing.T) {
	u := udpWith(UDPConfig{IdleTimeout: time.Hour})
	addr, _ := relayUDP(t, u, named(t, "a"))
	ask(t, dialUDPTest(t, addr), "old")
	if err := u.Reconfigure(UDPConfig{Pool: u.Pool, IdleTimeout: 100 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		ask(t, dialUDPTest(t, addr), "short")
	}
	waitFor(t, "the new sessions to expire before the old one", func() bool { st := u.Stats(); return st.Accepted >= 11 && st.Active == 1 })
	if err := u.Reconfigure(UDPConfig{Pool: u.Pool, IdleTimeout: 2 * time.Hour, MaxSessions: 3}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		ask(t, dialUDPTest(t, addr), "long")
		if n := u.Stats().Active; n != int64(min(i+2, 3)) {
			t.Errorf("%d sessions after %d new ones", n, i+1)
		}
	}
}

// A UDP session follows the name: with the next datagram it goes to an address that is in
// the answer.
func TestUDPSessionsFollowTheName(t *testing.T) {
	for _, resolve := range []Resolve{ResolveAll, ResolveFirst} {
		t.Run(resolve.String(), func(t *testing.T) {
			old := named(t, "old")
			_, port, _ := net.SplitHostPort(old.Address)
			moved, err := net.ListenPacket("udp", "127.0.0.2:"+port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { moved.Close() })
			go func() {
				buf := make([]byte, 100)
				for {
					n, from, err := moved.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = moved.WriteTo(append([]byte("new"), buf[:n]...), from)
				}
			}()
			z := &zone{hosts: map[string][]string{"app.test": {"127.0.0.1"}}}
			p := newPool(t, PoolConfig{Resolver: z, ResolveInterval: 100 * time.Millisecond,
				Backends: []Backend{{Name: "app", Address: "app.test:" + port, Resolve: resolve}}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go p.Run(ctx)
			<-p.Resolved()
			addr, _ := relayUDP(t, udpWith(UDPConfig{Pool: p}))
			c := dialUDPTest(t, addr)
			if got := ask(t, c, "1"); got != "old1" {
				t.Fatalf("got %q at first", got)
			}
			z.set(func() { z.hosts["app.test"] = []string{"127.0.0.2"} })
			waitFor(t, "the name to move", func() bool { return p.Status().Backends[0].Resolved == "127.0.0.2:"+port })
			if got := ask(t, c, "2"); got != "new2" {
				t.Errorf("got %q after the name has moved", got)
			}
		})
	}
}

// The cuts of a large pool come together, and later: sessions that a backend has got since
// then stay.
func TestUDPCutsSpareLaterSessions(t *testing.T) {
	p, flap, done := flapper(t, named(t, "a"))
	u := udpWith(UDPConfig{Pool: p})
	addr, _ := relayUDP(t, u)
	before, after := dialUDPTest(t, addr), dialUDPTest(t, addr)
	ask(t, before, "1")
	flap()
	ask(t, after, "2")
	done()
	waitFor(t, "the cut", func() bool { return u.Stats().Active == 1 })
	ask(t, after, "3")
	if st := u.Stats(); st.Accepted != 2 {
		t.Errorf("%+v, want two sessions in all", st)
	}
}
