package vip

import "net/netip"

// Route is a route that exists for as long as the addresses are held. It is
// marked with protocol number 112 in the kernel, as the addresses are; a route without that
// mark is never touched.
type Route struct {
	// Destination is the network; 0.0.0.0/0 or ::/0 for a default route.
	Destination netip.Prefix
	// Gateway is the next hop. None: the destination is on the link.
	Gateway netip.Addr
	// Interface is the device, if it is not Config.Interface, which it is also
	// with a virtual MAC.
	Interface string
	// Source is the preferred source address. Default: the kernel chooses.
	Source netip.Addr
	// Table is the routing table. Default 254, the main one.
	Table uint32
	// Metric: the least wins. Default 0 for IPv4, 1024 for IPv6. It should
	// differ from that of other routes to the same destination.
	Metric uint32
	// Optional: as of an Address.
	Optional bool
}

// mainTable is RT_TABLE_MAIN.
const mainTable = 254

// ambiguous reports whether the kernel, asked to remove r, might remove o: it
// compares what the request names, which is no Source that r does not have.
func (r Route) ambiguous(o Route) bool {
	apart := r.Gateway.IsValid() && o.Gateway.IsValid() && r.Gateway != o.Gateway
	return r.Destination == o.Destination && r.Interface == o.Interface && r.Table == o.Table && !apart
}
