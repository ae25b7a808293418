package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// zone is a Resolver whose answers a test changes.
type zone struct {
	mu    sync.Mutex
	hosts map[string][]string // a missing one is an error
	srv   map[string][]*net.SRV
	err   error // of all
}

func (z *zone) set(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *zone) LookupNetIP(_ context.Context, _, host string) (addrs []netip.Addr, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	texts, ok := z.hosts[host]
	if !ok || z.err != nil {
		return nil, errors.Join(z.err, errors.New("no such host"))
	}
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

func (z *zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.err != nil {
		return "", nil, z.err
	}
	return name, slices.Clone(z.srv[service+proto+name]), nil
}

// resolving makes a pool whose names are resolved every second from z. step changes z, waits
// for the next answers, and returns what the pool has then.
func resolving(t *testing.T, z *zone, cfg PoolConfig) (p *Pool, step func(change func()) string) {
	cfg.Resolver, cfg.ResolveInterval = z, time.Second
	p = newPool(t, cfg)
	p.hasRoute = func(netip.Addr) bool { return true }
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go p.Run(ctx)
	return p, func(change func()) string {
		z.set(change)
		time.Sleep(time.Second + 2*refreshPause)
		synctest.Wait()
		return members(p)
	}
}

// members is what a pool has: names, where they lead, and what is the matter with them.
func members(p *Pool) string {
	var list []string
	for _, b := range p.Status().Backends {
		s := b.Name
		if b.Resolved != b.Name && !strings.HasSuffix(b.Name, "/"+b.Resolved) {
			s += "=" + b.Resolved
		}
		for _, flag := range []struct {
			set  bool
			mark string
		}{{!b.Up, "!"}, {b.Draining, "~"}, {b.Backup, "+"}, {b.Ejected, "-"}, {b.Weight != 1, fmt.Sprint("*", b.Weight)}} {
			if flag.set {
				s += flag.mark
			}
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestEachAddressIsABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.2", "192.0.2.1"}}}
		p, step := resolving(t, z, PoolConfig{FailTimeout: time.Hour, Backends: []Backend{
			{Name: "app", Address: "app.test:80", MaxConns: 1, Weight: 3}, {Address: "192.0.2.9:80"}}})
		expect(t, "at first", step(func() {}), "app/192.0.2.1:80*3 app/192.0.2.2:80*3 192.0.2.9:80")
		b := p.Status().Backends[1]
		if b.Origin != "app" || b.Address != "app.test:80" || b.Authority != "app.test:80" || b.MaxConns != 1 {
			t.Errorf("%+v", b)
		}
		seen := make(map[string]string)
		for f := new(Flow); len(seen) < 3; {
			k, err := p.Pick(f)
			if err != nil {
				t.Fatal(err)
			}
			seen[k.Backend()] = k.Address()
			if k.Address() == "192.0.2.2:80" {
				k.Done(Failure) // the others are not to blame
			}
		}
		if seen["app/192.0.2.1:80"] != "192.0.2.1:80" {
			t.Errorf("picked %v", seen)
		}
		p.SetHealth("app/192.0.2.1:80", errDown)
		expect(t, "one down, one ejected", members(p), "app/192.0.2.1:80!*3 app/192.0.2.2:80-*3 192.0.2.9:80")

		expect(t, "one more, and what is known stays", step(func() { z.hosts["app.test"] = []string{"192.0.2.3", "192.0.2.2", "192.0.2.1"} }),
			"app/192.0.2.1:80!*3 app/192.0.2.2:80-*3 app/192.0.2.3:80*3 192.0.2.9:80")
		expect(t, "one gone", step(func() { z.hosts["app.test"] = []string{"192.0.2.3", "192.0.2.1"} }),
			"app/192.0.2.1:80!*3 app/192.0.2.3:80*3 192.0.2.9:80")
		expect(t, "the resolver fails", step(func() { z.err = errors.New("no answer") }),
			"app/192.0.2.1:80!*3 app/192.0.2.3:80*3 192.0.2.9:80")
		expect(t, "an empty answer", step(func() { z.err, z.hosts["app.test"] = nil, nil }),
			"app/192.0.2.1:80!*3 app/192.0.2.3:80*3 192.0.2.9:80")
		if err := p.Update([]Backend{{Name: "app", Address: "app.test:80"}, {Name: "other", Address: "app.test:80"}}); err != nil {
			t.Fatal(err)
		}
		expect(t, "a change of the backend, and another by the same name", members(p),
			"app/192.0.2.1:80! app/192.0.2.3:80 other/192.0.2.1:80 other/192.0.2.3:80")
		expect(t, "IPv6", step(func() { z.hosts["app.test"] = []string{"2001:db8::1"} }), "app/[2001:db8::1]:80 other/[2001:db8::1]:80")
	})
}

// An address that is gone drains as a removed backend does: what is connected goes on
// until the deadline.
func TestAddressThatIsGoneDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.1", "192.0.2.2"}}}
		p, step := resolving(t, z, PoolConfig{DrainTimeout: time.Minute, Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		var cut []*server
		onCut(t, p, func(s *server) { cut = append(cut, s) })
		step(func() {})
		gone := p.snap.Load().find("app/192.0.2.1:80").server
		expect(t, "moved", step(func() { z.hosts["app.test"] = []string{"192.0.2.2"} }), "app/192.0.2.2:80")
		time.Sleep(50 * time.Second)
		p.mu.Lock()
		if len(cut) > 0 {
			t.Error("cut before the deadline")
		}
		p.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !slices.Equal(cut, []*server{gone}) {
			t.Errorf("%d servers are cut, want the one that is gone", len(cut))
		}
	})
}

// Until there is an answer a host is dialled by its name, and the resolver's first answer
// does not cut what was connected meanwhile. The end of the backend does.
func TestHostWithoutAnAnswerIsDialledByItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{}}
		p, step := resolving(t, z, PoolConfig{DrainTimeout: time.Minute, SlowStart: time.Hour, Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		cuts := 0
		onCut(t, p, func(*server) { cuts++ })
		expect(t, "no answer", step(func() {}), "app=app.test:80")
		k, err := p.Pick(nil)
		if err != nil || k.Address() != "app.test:80" {
			t.Fatalf("picked %s, %v", k.Address(), err)
		}
		expect(t, "an answer", step(func() { z.hosts["app.test"] = []string{"192.0.2.1", "192.0.2.2"} }), "app/192.0.2.1:80 app/192.0.2.2:80")
		if p.restless.Load() != 0 {
			t.Error("what was there from the beginning starts slowly")
		}
		time.Sleep(time.Hour)
		p.mu.Lock()
		if cuts > 0 {
			t.Error("the first answer cuts connections")
		}
		p.mu.Unlock()
		if err := p.Update([]Backend{{Address: "192.0.2.9:80"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if cuts != 3 {
			t.Errorf("%d servers are cut after their backend was removed, want 3", cuts)
		}
	})
}

// What is said of a backend by its own name is said of all of its addresses, now and later.
func TestHealthOfANameIsThatOfItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{}}
		p, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		p.SetHealth("app", errDown)
		expect(t, "down before there is an answer", step(func() { z.hosts["app.test"] = []string{"192.0.2.1"} }), "app/192.0.2.1:80!")
		expect(t, "one more", step(func() { z.hosts["app.test"] = []string{"192.0.2.1", "192.0.2.2"} }), "app/192.0.2.1:80! app/192.0.2.2:80!")
		p.SetHealth("app", nil)
		if !p.SetDrain("app", true) {
			t.Error("no such backend")
		}
		expect(t, "up, and drains", step(func() { z.hosts["app.test"] = []string{"192.0.2.3", "192.0.2.2"} }), "app/192.0.2.2:80~ app/192.0.2.3:80~")
		p.SetDrain("app", false)
		p.SetHealth("app/192.0.2.2:80", errDown)
		expect(t, "one of them", members(p), "app/192.0.2.2:80! app/192.0.2.3:80")
	})
}

// A probe of the name, which was down while the name had no answer, says nothing of addresses
// that come when each is probed by itself.
func TestAddressSpokenOfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{}
		p, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		p.SetHealth("app", errDown)
		expect(t, "the first answer", step(func() { z.hosts = map[string][]string{"app.test": {"192.0.2.1", "192.0.2.2"}} }),
			"app/192.0.2.1:80! app/192.0.2.2:80!")
		p.SetHealth("app/192.0.2.1:80", nil)
		expect(t, "another address", step(func() { z.hosts["app.test"] = []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} }),
			"app/192.0.2.1:80 app/192.0.2.2:80! app/192.0.2.3:80")
	})
}

// Names that Update brings are resolved at once, and start slowly like all that it adds.
func TestUpdatedNamesAreResolvedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.1"}, "new.test": {"192.0.2.2"}}}
		p := newPool(t, PoolConfig{Resolver: z, ResolveInterval: time.Hour, SlowStart: time.Minute, Backends: []Backend{{Address: "app.test:80"}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		<-p.Resolved()
		expect(t, "at first", members(p), "app.test:80/192.0.2.1:80")
		if err := p.Update([]Backend{{Address: "app.test:80"}, {Address: "new.test:80"}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "then", members(p), "app.test:80/192.0.2.1:80 new.test:80/192.0.2.2:80")
		if p.snap.Load().all[1].ramp.Load() == 0 {
			t.Error("what was added does not start slowly")
		}
	})
}

// Another ResolveInterval counts at once, not after the interval of before.
func TestResolveIntervalChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.1"}}}
		cfg := PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}}, ResolveInterval: 24 * time.Hour, Resolver: z}
		p := newPool(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		time.Sleep(time.Second)
		z.set(func() { z.hosts["app.test"] = []string{"192.0.2.2"} })
		cfg.ResolveInterval = time.Minute
		if err := p.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		expect(t, "not yet", members(p), "app/192.0.2.1:80")
		time.Sleep(31 * time.Second)
		expect(t, "after a minute", members(p), "app/192.0.2.2:80")
	})
}

// Nodes that get the addresses in another order give a flow the same backend.
func TestNodesAgreeOnAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var addrs []string
		for i := range 20 {
			addrs = append(addrs, fmt.Sprintf("192.0.2.%d", i+1))
		}
		var pools []*Pool
		for range 2 {
			rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
			p, step := resolving(t, &zone{hosts: map[string][]string{"app.test": slices.Clone(addrs)}},
				PoolConfig{Balance: Maglev, Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
			step(func() {})
			pools = append(pools, p)
		}
		for i := range 100 {
			f := Flow{Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(i+1))}
			other := f
			a, err := pools[0].Pick(&f)
			b, berr := pools[1].Pick(&other)
			if err != nil || berr != nil || a.Address() != b.Address() {
				t.Fatalf("%s %v, %s %v", a.Address(), err, b.Address(), berr)
			}
		}
	})
}

func TestFamiliesWithoutARoute(t *testing.T) {
	a4, b4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name         string
		addrs, reach []netip.Addr
		want         []netip.Addr
	}{
		{"both", []netip.Addr{a4, a6}, []netip.Addr{a4, a6}, []netip.Addr{a4, a6}},
		{"IPv4 alone", []netip.Addr{a6, a4, b4}, []netip.Addr{b4}, []netip.Addr{a4, b4}},
		{"IPv6 alone", []netip.Addr{a4, a6}, []netip.Addr{a6}, []netip.Addr{a6}},
		{"nothing", []netip.Addr{a4, a6}, nil, []netip.Addr{a4, a6}},
		{"one family in the answer", []netip.Addr{a6}, []netip.Addr{a4}, []netip.Addr{a6}},
		{"the preferred family first", []netip.Addr{a6, b4, a4}, []netip.Addr{a4, a6}, []netip.Addr{a6, a4, b4}},
		{"the other one preferred", []netip.Addr{b4, a6, a4, b4}, []netip.Addr{a4, a6}, []netip.Addr{a4, b4, a6}},
	} {
		p := newPool(t, PoolConfig{})
		p.hasRoute = func(a netip.Addr) bool { return slices.Contains(tt.reach, a) }
		var texts []string
		for _, a := range tt.addrs {
			texts = append(texts, a.String())
		}
		got, err := p.askHost(t.Context(), hostsOf(func(string) ([]string, error) { return texts, nil }), "app.test")
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	if !hasRoute(netip.MustParseAddr("127.0.0.1")) {
		t.Error("no route to 127.0.0.1")
	}
}

// A resolver that blocks a name leads nobody to this host.
func TestAddressesOfNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.1"}}}
		_, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
		expect(t, "at first", step(func() {}), "app/192.0.2.1:80")
		expect(t, "blocked", step(func() { z.hosts["app.test"] = []string{"0.0.0.0", "::", "::ffff:0.0.0.0"} }), "app/192.0.2.1:80")
		expect(t, "partly", step(func() { z.hosts["app.test"] = []string{"0.0.0.0", "224.0.0.1", "192.0.2.2"} }), "app/192.0.2.2:80")
	})
}

// Names that are still looked up are no loss of the quorum. Those that stay unknown are.
func TestQuorumOfNames(t *testing.T) {
	for hosts, want := range map[string]string{"app.test": "", "other.test": "pool is below its quorum"} {
		synctest.Test(t, func(t *testing.T) {
			z := &zone{hosts: map[string][]string{hosts: {"192.0.2.1", "192.0.2.2"}}}
			log := new(story)
			_, step := resolving(t, z, PoolConfig{Quorum: 2, Logger: log.logger(slog.LevelInfo), Backends: []Backend{{Name: "app", Address: "app.test:80"}}})
			step(func() {})
			if got := log.String(); !strings.Contains(got, want) || want == "" && strings.Contains(got, "quorum") {
				t.Errorf("%s is known: %q, want %q", hosts, got, want)
			}
		})
	}
}

// Thousands of answers that come together make few rosters.
func TestAnswersComeTogether(t *testing.T) {
	var backends []Backend
	for i := range 500 {
		backends = append(backends, Backend{Address: fmt.Sprintf("app%d.test:80", i)})
	}
	var log story
	p := newPool(t, PoolConfig{Backends: backends, Logger: log.logger(slog.LevelDebug), Resolver: hostsOf(func(string) ([]string, error) {
		return []string{"192.0.2.1", "192.0.2.2"}, nil
	})})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	p.learning <- struct{}{}
	go func() { done <- p.Run(ctx) }()
	waitFor(t, "all answers", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.news) == len(backends)
	})
	<-p.learning
	<-p.Resolved()
	if n := len(p.Status().Backends); n != 1000 {
		t.Errorf("%d backends when all names are resolved", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "pool changes"); n > 2 {
		t.Errorf("%d looks at the pool for 500 answers", n)
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for address, want := range map[string]string{
		"_http._tcp.example.org:80": `the port is in the SRV records: want "_http._tcp.example.org"`,
		"_http._tcp.":               "want the name of SRV records such as",
		"_._tcp.example.org":        "want the name of SRV records such as",
		"_http._tcp..org":           "want the name of SRV records such as",
		"_http._tcp":                "want host:port",
		"_http.example.org":         "want host:port",
		"_http._tcp.example.org":    "",
		"_http.example.org:80":      "",
	} {
		err := Backend{Address: address}.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	if err := (Backend{Address: "a:80", Resolve: 2}).Validate(); err == nil || !strings.Contains(err.Error(), "Resolve: Resolve(2): want all or first") {
		t.Errorf("resolve: %v", err)
	}
	for address, ok := range map[string]bool{"app.test:80": true, "_http._tcp.example.org": true, "192.0.2.1:80": false} {
		if err := (PoolConfig{Quorum: 2, Backends: []Backend{{Address: address}}}).Validate(); (err == nil) != ok {
			t.Errorf("a quorum of 2 of %s: %v", address, err)
		}
	}
}
