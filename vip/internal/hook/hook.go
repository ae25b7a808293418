// Package hook is where package filter says that it is there: package vip does not
// import it, so that a program which does without has no nftables in it.
package hook

import (
	"fmt"
	"net/netip"
	"strings"
)

// Filter drops what is addressed to virtual addresses, in one network namespace, in a
// table for each name.
type Filter interface {
	// Drop drops what comes in for addrs, and for no others that it dropped under
	// this name before.
	Drop(name string, addrs []netip.Addr) error
	// Pass undoes Drop. That nothing is dropped is no error.
	Pass(name string) error
	// Intact reports whether Drop is in force still for addrs and this name.
	Intact(name string, addrs []netip.Addr) (bool, error)
	// Sweep undoes every Drop of another process for one of addrs.
	Sweep(addrs []netip.Addr) error
	Close() error
}

// OpenFilter opens a Filter in the network namespace of the calling thread; nil: the
// program does without. It is set while packages are initialised.
var OpenFilter func() (Filter, error)

// TablePrefix tells the tables of Filters from others.
const TablePrefix = "havip_"

// TableName names the table of a name, to each its own, in the family inet. It holds
// no character that nft would have to quote.
func TableName(name string) string {
	var safe strings.Builder
	for _, b := range []byte(name) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '_', b == '-', b == '.':
			safe.WriteByte(b)
		default:
			fmt.Fprintf(&safe, "/%02x", b)
		}
	}
	return TablePrefix + safe.String()
}
