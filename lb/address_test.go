package lb

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// answered has a pool that is not run use an answer for a backend's name.
func answered(p *Pool, backend string, to ...string) {
	var answer []endpoint
	for _, a := range to {
		answer = append(answer, endpoint{to: netip.MustParseAddrPort(a)})
	}
	p.apply([]news{{p.snap.Load().names[backend], answer}})
}

// A backend that has one address at a time is down at the next one as well; one of another
// address is another backend, and another name is asked for.
func TestOneAddressAtATime(t *testing.T) {
	app := Backend{Name: "app", Address: "app.test:80", Resolve: ResolveFirst}
	p := newPool(t, PoolConfig{Backends: []Backend{app}})
	p.SetHealth("app", errDown)
	for _, at := range []string{"192.0.2.1:80", "192.0.2.2:80"} {
		if answered(p, "app", at); !p.find("app").down.Load() || p.find("app").connectTo != at {
			t.Errorf("at %s it is up", at)
		}
	}
	update := func(address string) {
		t.Helper()
		b := app
		b.Address = address
		if err := p.Update([]Backend{b}); err != nil {
			t.Fatal(err)
		}
	}
	update("other.test:80")
	if n := p.snap.Load().names["app"]; n.address != "other.test:80" || len(n.answer) != 0 || p.find("app").connectTo != n.address {
		t.Errorf("%+v", n)
	}
	answered(p, "app", "192.0.2.1:80")
	p.SetHealth("app", errDown)
	update("192.0.2.1:80")
	if p.find("app").down.Load() {
		t.Error("a literal address has the health of the name that had it")
	}
}

// A new address of a name that is down is no part of a large pool's quorum and turns, although
// its snapshot is made ahead.
func TestNewAddressOfALargePool(t *testing.T) {
	bs := []Backend{{Name: "app", Address: "app.test:80"}}
	for i := range maxEager {
		bs = append(bs, Backend{Address: fmt.Sprintf("192.0.2.1:%d", i+1)})
	}
	p := newPool(t, PoolConfig{Backends: bs})
	p.SetHealth("app", errDown)
	answered(p, "app", "192.0.2.2:80")
	p.refreshIfStale()
	s := p.snap.Load()
	if m := s.find("app/192.0.2.2:80"); m == nil || !m.down.Load() || s.tiers[0].up[m.index] {
		t.Errorf("%+v", m)
	}
}

// A change that comes between the look at all backends and the snapshot has another one made.
func TestChangeDuringASnapshot(t *testing.T) {
	p := newPool(t, PoolConfig{Backends: backends(1, 1)})
	r := p.snap.Load().roster
	s := p.newSnapshot(r)
	p.mu.Lock()
	p.find("a").down.Store(true)
	p.changes.Add(1)
	p.publish(r, s)
	p.mu.Unlock()
	waitFor(t, "a snapshot that knows of it", func() bool { return !p.snap.Load().tiers[0].up[0] })
}

// In panic all backups are in use where every primary drains.
func TestPanicOfBackupsAlone(t *testing.T) {
	bs := backends(1, 1, 1)
	bs[0].Drain, bs[1].Backup, bs[2].Backup = true, true, true
	p := newPool(t, PoolConfig{Panic: 60, Backends: bs})
	p.SetHealth("b", errDown)
	st := p.Status()
	for i, want := range []bool{false, true, true} {
		if b := st.Backends[i]; b.InUse != want || !st.Panic {
			t.Errorf("panic %v: %+v", st.Panic, b)
		}
	}
}

// A drain that is over at the moment at which it is called off cuts nothing.
func TestDrainCalledOffInTime(t *testing.T) {
	p := newPool(t, PoolConfig{DrainTimeout: time.Millisecond, Backends: backends(1)})
	s := p.find("a").server
	p.mu.Lock()
	p.drain(s, true)
	time.Sleep(10 * time.Millisecond) // the timer's function waits for the lock by now
	p.drain(s, false)
	p.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	if s.lastCut.Load() != 0 {
		t.Error("connections were cut")
	}
}

// Weight and tier of a backend go before those of an SRV record.
func TestRecordsOfADrainingBackup(t *testing.T) {
	e := endpoint{to: netip.MustParseAddrPort("192.0.2.1:80"), target: "a.test.", weight: 5}
	m := Backend{Name: "app", Address: "_http._tcp.app.test", Weight: -1, Backup: true}.at(new(hostname), e, "a")
	if m.Weight != -1 || !m.Backup {
		t.Errorf("weight %d, backup %v", m.Weight, m.Backup)
	}
}

// What resolvers may say is bounded, and records without a port lead nowhere.
func TestAnswersAreBounded(t *testing.T) {
	z := &zone{hosts: map[string][]string{"a.test": {"192.0.2.1"}},
		srv: map[string][]*net.SRV{"_http._tcp.app.test": {{Target: "a.test.", Port: 0}, {Target: "a.test.", Port: 80}}}}
	for i := range maxAddresses + 10 {
		z.hosts["many.test"] = append(z.hosts["many.test"], netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
	}
	p := newPool(t, PoolConfig{Resolver: z, Backends: []Backend{{Name: "many", Address: "many.test:80"}}})
	if got := len(p.resolve(t.Context(), p.snap.Load().names["many"])); got != maxAddresses {
		t.Errorf("%d addresses, want %d", got, maxAddresses)
	}
	answer, err := p.ask(t.Context(), "_http._tcp.app.test", nil)
	if err != nil || len(answer) != 1 || answer[0].to.String() != "192.0.2.1:80" {
		t.Errorf("%+v, %v", answer, err)
	}
}
