package filter

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestFilter: RFC 9568 §6.1, Accept_Mode False: what is sent to the address is
// dropped while neighbour discovery and ARP still find it; other addresses are
// not affected, and Pass undoes it.
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
	f := openIn(t, node)

	virtual := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
	for range 2 { // the second time replaces the first
		if err := f.Drop("VI 1", virtual); err != nil {
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
		if err := f.Pass("VI 1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range virtual {
		if !reaches(a.String(), 10*time.Second) {
			t.Errorf("%v is not reached after the filter was removed", a)
		}
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

// openIn opens a filter inside a host.
func openIn(t *testing.T, h *lab.Host) *filter {
	t.Helper()
	var f *filter
	if err := h.Do(func() error {
		opened, err := open()
		if err == nil {
			f = opened.(*filter)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Routers with similar names have tables of their own, and work at the same
// time.
func TestNetnsFiltersApart(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	f := openIn(t, h)
	names := []string{"VI-1", "VI_1", "VI 1", "VI.1", "VI/201", "V\u00cd1"}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			for range 20 {
				if err := f.Drop(name, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}); err != nil {
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
		dropped, _, err := f.dropped(table(name))
		if err != nil || !slices.Contains(dropped, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})) {
			t.Errorf("%s has not its own table: %v", name, err)
		}
		if err := f.Pass(name); err != nil {
			t.Error(err)
		}
	}
	if got := tables(t, f); len(got) != 0 {
		t.Errorf("tables %v are left", got)
	}
}
