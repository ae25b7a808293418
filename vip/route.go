package vip

import "net/netip"

// Route is a route that exists while the addresses are held. It has the protocol number 112
// in the kernel, as the addresses have; a Manager never touches a route without this mark.
type Route struct {
	// Destination is the network; 0.0.0.0/0 or ::/0 for a default route.
	Destination netip.Prefix
	// Gateway is the next hop. None: the destination is on the link.
	Gateway netip.Addr
	// Interface is the device. Default: Config.Interface, also with a virtual MAC.
	Interface string
	// Source is the preferred source address. Default: the kernel chooses.
	Source netip.Addr
	// Table is the routing table. Default 254, the main one.
	Table uint32
	// Metric: the route with the least one wins. Default 0 for IPv4, 1024 for IPv6.
	// Other routes to the same destination should have another metric.
	Metric uint32
	// Optional: as for an Address.
	Optional bool
}

// mainTable is RT_TABLE_MAIN.
const mainTable = 254

// ambiguous reports whether a request to remove r might remove o: the kernel compares only
// the attributes that the request names.
func (r Route) ambiguous(o Route) bool {
	apart := r.Gateway.IsValid() && o.Gateway.IsValid() && r.Gateway != o.Gateway
	return r.Destination == o.Destination && r.Interface == o.Interface && r.Table == o.Table && !apart
}
