package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// filter drops what is addressed to virtual addresses: Accept_Mode False
// (RFC 9568 §6.1), in one nftables table for each Manager.
type filter struct{ conn *nftables.Conn }

func (k *linuxKernel) filter(name string, addrs []netip.Addr) error {
	switch {
	case k.packets == nil:
		return fmt.Errorf("nftables: %w", errors.ErrUnsupported)
	case len(addrs) == 0:
		return k.packets.pass(name)
	}
	return k.packets.drop(name, addrs)
}

// openFilter opens a filter in the network namespace of the calling thread.
func openFilter() (*filter, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return &filter{conn}, nil
}

func (f *filter) close() error { return f.conn.CloseLasting() }

// filterTable names a Manager's table. It holds no character that nft would
// have to quote.
func filterTable(name string) *nftables.Table {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "havip_" + safe}
}

// drop replaces the Manager's table by one that drops what comes in for addrs.
func (f *filter) drop(name string, addrs []netip.Addr) error {
	table := filterTable(name)
	// Adding it first makes deleting it succeed; both are in one transaction
	// with what follows, so that there is no moment without the rules.
	f.conn.AddTable(table)
	f.conn.DelTable(table)
	f.conn.AddTable(table)
	input := f.conn.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	// Neighbour discovery goes on: the address must still be found on the link
	// (RFC 9568 §6.1). ARP does not pass this hook.
	for _, kind := range []byte{icmpNeighborSolicitation, icmpNeighborAdvertisement} {
		f.conn.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: []expr.Any{
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
		return fmt.Errorf("nftables: %w", err)
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

// pass removes the Manager's table, if there is one.
func (f *filter) pass(name string) error {
	table := filterTable(name)
	f.conn.AddTable(table)
	f.conn.DelTable(table)
	return f.flush("remove rules")
}

func (f *filter) flush(what string) error {
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %s: %w", what, err)
	}
	return nil
}
