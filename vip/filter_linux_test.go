package vip

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/havip/havip/internal/lab"
	_ "github.com/havip/havip/vip/filter"
	"github.com/havip/havip/vip/internal/hook"
)

// TestNoAccept: the filter comes and goes with the addresses, and a
// predecessor's is removed at the start.
func TestNoAccept(t *testing.T) {
	node := lab.New(t).MustHost("node", "192.0.2.1/24")
	var m *Manager
	before := newPredecessor(t, node)
	err := node.Do(func() (err error) {
		m, err = NewManager(Config{
			Name: "VI_1", Interface: "eth0", NoAccept: true,
			Addresses: []Address{{Prefix: netip.MustParsePrefix("192.0.2.10/32")}},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	filtered := func() bool { return slices.Contains(before.tables(t), "havip_VI_1") }
	if err := before.Drop("VI_1", []netip.Addr{netip.MustParseAddr("192.0.2.10")}); err != nil {
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

// predecessor is a filter of another process and its connection, inside a host.
type predecessor struct {
	hook.Filter
	conn *nftables.Conn
}

func newPredecessor(t *testing.T, h *lab.Host) (p predecessor) {
	t.Helper()
	if err := h.Do(func() (err error) {
		if p.Filter, err = hook.OpenFilter(); err == nil {
			p.conn, err = nftables.New(nftables.AsLasting())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		p.conn.CloseLasting()
	})
	return p
}

// tables lists the names of the tables.
func (p predecessor) tables(t *testing.T) (names []string) {
	t.Helper()
	list, err := p.conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, tb := range list {
		names = append(names, tb.Name)
	}
	slices.Sort(names)
	return names
}

// A killed predecessor's filter goes at the start, whatever its router was called
// and though this one accepts. Those of other addresses, and of others, stay.
func TestNetnsFilterIsSwept(t *testing.T) {
	for _, noAccept := range []bool{false, true} {
		h := lab.New(t).MustHost("a", "192.0.2.1/24")
		before := newPredecessor(t, h)
		for name, addrs := range map[string][]string{
			"VI_1": {vip4}, "renamed since": {"192.0.2.77", vip6}, "another's": {"192.0.2.78"},
		} {
			var list []netip.Addr
			for _, a := range addrs {
				list = append(list, netip.MustParseAddr(a))
			}
			if err := before.Drop(name, list); err != nil {
				t.Fatal(err)
			}
		}
		before.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"})
		if err := before.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		m, _ := runIn(t, h, Config{Name: "VI_1", Addresses: addrs(t, vip4+"/24", vip6+"/64"), NoAccept: noAccept})
		<-m.Ready()
		if got, want := before.tables(t), []string{"firewall", "havip_another/27s"}; !slices.Equal(got, want) {
			t.Errorf("tables %v, want %v", got, want)
		}
	}
}

// TestNetnsFilterIsBack: whatever was flushed is back after the next patrol.
func TestNetnsFilterIsBack(t *testing.T) {
	h := lab.New(t).MustHost("a", "192.0.2.1/24")
	f := newPredecessor(t, h)
	m, _ := runIn(t, h, Config{Name: "VI_1", Addresses: addrs(t, vip4+"/24", vip6+"/64"), NoAccept: true})
	mustAcquire(t, m)
	intact := func() bool {
		ok, err := f.Intact("VI_1", m.cfg.addrs())
		return ok && err == nil // it may be just about to be made
	}
	if !intact() {
		t.Fatal("the filter is not there to begin with")
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: hook.TableName("VI_1")}
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
