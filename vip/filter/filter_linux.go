package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/vip/internal/hook"
)

// filter drops what is addressed to virtual addresses: Accept_Mode False
// (RFC 9568 §6.1), in one nftables table for each Manager.
type filter struct {
	mu   sync.Mutex // conn collects a transaction until it is flushed
	conn *nftables.Conn
	own  map[string]bool // names of tables that this process has made
}

func init() { hook.OpenFilter = open }

// open opens a filter in the network namespace of the calling thread. The error wraps
// errors.ErrUnsupported if the kernel has no nftables.
func open() (hook.Filter, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("vip: nftables, which NoAccept takes: %w", err)
	}
	return &filter{conn: conn, own: make(map[string]bool)}, nil
}

// Close closes the socket.
func (f *filter) Close() error { return f.conn.CloseLasting() }

// inputChain is the only chain of a table.
const inputChain = "input"

// neighborDiscovery are the ICMPv6 types that are not dropped: solicitation and
// advertisement (RFC 4861 §4.3, §4.4).
var neighborDiscovery = []byte{135, 136}

// table is that of a name.
func table(name string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: hook.TableName(name)}
}

// Drop replaces the Manager's table by one that drops what comes in for addrs.
func (f *filter) Drop(name string, addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := table(name)
	f.own[own.Name] = true
	// Adding it first makes deleting it succeed; both are in one transaction
	// with what follows, so that there is no moment without the rules.
	f.conn.AddTable(own)
	f.conn.DelTable(own)
	f.conn.AddTable(own)
	input := f.conn.AddChain(&nftables.Chain{
		Name: inputChain, Table: own, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	// Neighbour discovery goes on: the address must still be found on the link
	// (RFC 9568 §6.1). ARP does not pass this hook.
	for _, kind := range neighborDiscovery {
		f.conn.AddRule(&nftables.Rule{Table: own, Chain: input, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	if err := errors.Join(
		f.dropFamily(input, addrs, unix.NFPROTO_IPV4, nftables.TypeIPAddr, 16),
		f.dropFamily(input, addrs, unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 24),
	); err != nil {
		return fmt.Errorf("vip: nftables: %w", err)
	}
	return f.flush("add rules")
}

// dropFamily adds a set of the addresses of one family, and the rule that
// drops what is for them; offset is that of the destination in the IP header.
func (f *filter) dropFamily(input *nftables.Chain, addrs []netip.Addr, family byte, kind nftables.SetDatatype, offset uint32) error {
	var elements []nftables.SetElement
	for _, a := range addrs {
		if a.Is4() == (family == unix.NFPROTO_IPV4) {
			elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	if len(elements) == 0 {
		return nil
	}
	set := &nftables.Set{Table: input.Table, Name: kind.Name, KeyType: kind}
	if err := f.conn.AddSet(set, elements); err != nil {
		return err
	}
	f.conn.AddRule(&nftables.Rule{Table: input.Table, Chain: input, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: kind.Bytes},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return nil
}

// Pass removes the Manager's table, if there is one.
func (f *filter) Pass(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := table(name)
	f.conn.AddTable(own)
	f.conn.DelTable(own)
	return f.flush("remove rules")
}

// Sweep removes the tables of other processes that drop what comes in for one of
// addrs. It does not go by names: the predecessor may have had others.
func (f *filter) Sweep(addrs []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	tables, err := f.tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if f.own[t.Name] {
			continue
		}
		dropped, _, err := f.dropped(t)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(dropped, a) }) {
			f.conn.DelTable(t)
		}
	}
	return f.flush("remove a predecessor's rules")
}

// tables lists the tables of Managers, of all processes.
func (f *filter) tables() ([]*nftables.Table, error) {
	list, err := f.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if errors.Is(err, unix.EINVAL) {
		err = errors.ErrUnsupported // netfilter's answer where there is no nftables
	}
	if err != nil {
		return nil, fmt.Errorf("vip: nftables: list tables: %w", err)
	}
	return slices.DeleteFunc(list, func(t *nftables.Table) bool { return !strings.HasPrefix(t.Name, hook.TablePrefix) }), nil
}

// dropped lists the addresses that a table is about, and counts their sets.
func (f *filter) dropped(t *nftables.Table) (addrs []netip.Addr, sets int, err error) {
	list, err := f.conn.GetSets(t)
	for _, s := range list {
		elements, failed := f.conn.GetSetElements(s)
		err = errors.Join(err, failed)
		for _, e := range elements {
			if a, ok := netip.AddrFromSlice(e.Key); ok {
				addrs = append(addrs, a)
			}
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("vip: nftables: table %s: %w", t.Name, err)
	}
	return addrs, len(list), nil
}

// Intact reports whether the Manager's table is as Drop has made it.
func (f *filter) Intact(name string, addrs []netip.Addr) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := table(name)
	tables, err := f.tables()
	if err != nil || !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == own.Name }) {
		return false, err
	}
	dropped, sets, err := f.dropped(own)
	if err != nil {
		return false, err
	}
	rules, err := f.conn.GetRules(own, &nftables.Chain{Name: inputChain, Table: own})
	if err != nil {
		return false, fmt.Errorf("vip: nftables: table %s: %w", own.Name, err)
	}
	lost := slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(dropped, a) })
	return !lost && len(rules) == len(neighborDiscovery)+sets, nil
}

func (f *filter) flush(what string) error {
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("vip: nftables: %s: %w", what, err)
	}
	return nil
}
