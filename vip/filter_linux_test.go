package vip

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// TestFilter: RFC 9568 §6.1, Accept_Mode False: what is sent to the address is
// dropped while neighbour discovery and ARP still find it; other addresses are
// not affected, and pass undoes it.
func TestFilter(t *testing.T) {
	l := lab.New(t)
	node := l.MustHost("node", "192.0.2.1/24", "192.0.2.10/24", "2001:db8::1/64", "2001:db8::10/64")
	client := l.MustHost("client", "192.0.2.2/24", "2001:db8::2/64")
	ln, err := node.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, ln, func(net.Conn) {})
	reaches := func(addr string, timeout time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		c, err := client.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), 80).String())
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	var f *filter
	if err := node.Do(func() (err error) { f, err = openFilter(); return err }); err != nil {
		t.Fatal(err)
	}
	defer f.close()

	virtual := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
	for range 2 { // the second time replaces the first
		if err := f.drop("VI 1", virtual); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range virtual {
		if reaches(a.String(), 500*time.Millisecond) {
			t.Errorf("%v is reached in spite of the filter", a)
		}
	}
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		if !reaches(a, 10*time.Second) {
			t.Errorf("%v is not reached: the filter is none of its business", a)
		}
	}
	neigh, err := client.Netlink().NeighList(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[netip.Addr]bool{}
	for _, n := range neigh {
		if a, ok := netip.AddrFromSlice(n.IP); ok && len(n.HardwareAddr) == 6 {
			found[a.Unmap()] = true
		}
	}
	for _, a := range virtual {
		if !found[a] {
			t.Errorf("the client could not resolve %v on the link", a)
		}
	}

	for range 2 { // there is nothing any more the second time
		if err := f.pass("VI 1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range virtual {
		if !reaches(a.String(), 10*time.Second) {
			t.Errorf("%v is not reached after the filter was removed", a)
		}
	}
}

// TestNoAccept: the filter comes and goes with the addresses, and a
// predecessor's is removed at the start.
func TestNoAccept(t *testing.T) {
	node := lab.New(t).MustHost("node", "192.0.2.1/24")
	var m *Manager
	var predecessor *filter
	err := node.Do(func() (err error) {
		if predecessor, err = openFilter(); err != nil {
			return err
		}
		m, err = NewManager(Config{
			Name: "VI_1", Interface: "eth0", NoAccept: true,
			Addresses: []Address{{Prefix: netip.MustParsePrefix("192.0.2.10/32")}},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer predecessor.close()
	filtered := func() bool {
		tables, err := predecessor.conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(tables, func(tb *nftables.Table) bool { return tb.Name == "havip_VI_1" })
	}
	if err := predecessor.drop("VI_1", []netip.Addr{netip.MustParseAddr("192.0.2.10")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	lab.Until(t, 10*time.Second, "the predecessor's filter is gone", func() bool { return !filtered() })
	for range 2 {
		if err := m.Acquire(ctx); err != nil {
			t.Fatal(err)
		}
		if !filtered() {
			t.Error("no filter while the address is held")
		}
		if err := m.Release(ctx); err != nil {
			t.Fatal(err)
		}
		if filtered() {
			t.Error("a filter after the address was released")
		}
	}
	if err := m.Acquire(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if filtered() {
		t.Error("a filter after the end")
	}
}

// tables lists the names of our tables.
func tables(t *testing.T, f *filter) (names []string) {
	t.Helper()
	list, err := f.conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, tb := range list {
		names = append(names, tb.Name)
	}
	slices.Sort(names)
	return names
}

// openFilterIn opens a filter inside a host.
func openFilterIn(t *testing.T, h *lab.Host) *filter {
	t.Helper()
	var f *filter
	if err := h.Do(func() (err error) { f, err = openFilter(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close() })
	return f
}

// A killed predecessor's filter goes at the start, whatever its router was called
// and though this one accepts. Those of other addresses, and of others, stay.
func TestNetnsFilterIsSwept(t *testing.T) {
	for _, noAccept := range []bool{false, true} {
		h := lab.New(t).MustHost("a", "192.0.2.1/24")
		predecessor := openFilterIn(t, h)
		for name, addrs := range map[string][]string{
			"VI_1": {vip4}, "renamed since": {"192.0.2.77", vip6}, "another's": {"192.0.2.78"},
		} {
			var list []netip.Addr
			for _, a := range addrs {
				list = append(list, netip.MustParseAddr(a))
			}
			if err := predecessor.drop(name, list); err != nil {
				t.Fatal(err)
			}
		}
		predecessor.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"})
		if err := predecessor.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		m, _ := runIn(t, h, Config{Name: "VI_1", Addresses: addrs(t, vip4+"/24", vip6+"/64"), NoAccept: noAccept})
		<-m.Ready()
		if got, want := tables(t, predecessor), []string{"firewall", "havip_another/27s"}; !slices.Equal(got, want) {
			t.Errorf("tables %v, want %v", got, want)
		}
	}
}

// Routers with similar names have tables of their own, and work at the same
// time.
func TestNetnsFiltersApart(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	f := openFilterIn(t, h)
	names := []string{"VI-1", "VI_1", "VI 1", "VI.1", "VI/201", "V\u00cd1"}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			for range 20 {
				if err := f.drop(name, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := tables(t, f); len(got) != len(names) {
		t.Errorf("tables %v, want %d", got, len(names))
	}
	for i, name := range names {
		drops, err := f.drops(filterTable(name), []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
		if err != nil || !drops {
			t.Errorf("%s has not its own table: %v", name, err)
		}
		if err := f.pass(name); err != nil {
			t.Error(err)
		}
	}
	if got := tables(t, f); len(got) != 0 {
		t.Errorf("tables %v are left", got)
	}
}

// TestNetnsFilterIsBack: whatever was flushed is back after the next patrol.
func TestNetnsFilterIsBack(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	f := openFilterIn(t, h)
	m, _ := runIn(t, h, Config{Name: "VI_1", Addresses: addrs(t, vip4+"/24", vip6+"/64"), NoAccept: true})
	mustAcquire(t, m)
	intact := func() bool {
		ok, err := f.intact("VI_1", m.addrs())
		return ok && err == nil // it may be just about to be made
	}
	if !intact() {
		t.Fatal("the filter is not there to begin with")
	}
	table := filterTable("VI_1")
	for name, flush := range map[string]func(){
		"ruleset": f.conn.FlushRuleset,
		"table":   func() { f.conn.FlushTable(table) },
		"sets": func() {
			f.conn.FlushSet(&nftables.Set{Table: table, Name: nftables.TypeIPAddr.Name, KeyType: nftables.TypeIPAddr})
		},
	} {
		flush()
		m.mu.Lock() // an event may be about to have the filter looked at
		err, still := f.conn.Flush(), intact()
		m.looks.next = time.Now() // the patrol
		m.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if still {
			t.Errorf("%s: nothing is missing", name)
		}
		m.poke()
		lab.Until(t, bound, "the filter is back after a flush of the "+name, intact)
	}
	if !m.Status().Held {
		t.Error("the addresses were lost")
	}
}
