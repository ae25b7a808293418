// Package hook is where package filter registers itself. Package vip does not import
// package filter, so that a program without NoAccept has no nftables in it.
package hook

import (
	"fmt"
	"net/netip"
	"strings"
)

// Filter drops packets for virtual addresses, in one network namespace. Each name has a
// table.
type Filter interface {
	// Drop replaces the table of a name: packets for addrs are dropped.
	Drop(name string, addrs []netip.Addr) error
	// Pass removes the table of a name. A missing one is no error.
	Pass(name string) error
	// Intact reports whether the table of a name is as Drop has made it for addrs.
	Intact(name string, addrs []netip.Addr) (bool, error)
	// Sweep removes the tables of other processes that are about one of addrs.
	Sweep(addrs []netip.Addr) error
	Close() error
}

// OpenFilter opens a Filter in the network namespace of the calling thread. Package filter
// sets it while packages are initialised; nil: the program has no package filter. The error
// wraps errors.ErrUnsupported if the kernel has no nftables.
var OpenFilter func() (Filter, error)

// TablePrefix tells the tables of Filters from others.
const TablePrefix = "havip_"

// TableName returns the name of a table, in the family inet: another for each name, and
// without characters that nft would have to quote.
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
