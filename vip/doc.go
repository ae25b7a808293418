// Package vip puts virtual addresses on an interface of this host, keeps them
// there for as long as this host is entitled to them, and takes them away when
// it is not.
//
// A [Manager] owns the addresses of one virtual router. It is level-triggered:
// it compares the addresses that should be there with those that are, so a
// predecessor's leftovers go at start, an address that another program deletes
// is back within milliseconds, and one that appears while it should not is
// removed. Its addresses carry a mark in the kernel (IFA_PROTO, since Linux 5.18;
// for older ones there is a list under /run/havip). Without the mark an address is
// never touched: one that is among the configured ones is in the way, until
// somebody removes it or [Config].Takeover allows the Manager to.
//
// With a lease the kernel itself removes an address that is no longer renewed:
// a process that was killed or frozen gives its addresses up without anyone's
// help.
//
// What would keep the addresses from being held, such as an interface that is down,
// is known beforehand: see [Manager.WatchFaults].
//
// *Manager has the three methods Acquire, Announce and Release, which is what
// package vrrp expects of a handler. It is just as useful to a program that
// elects its leader in another way.
//
// The package uses netlink and packet sockets: it needs Linux, CAP_NET_ADMIN
// and CAP_NET_RAW. A Manager works in the network namespace of the thread that
// called [NewManager], whatever thread its other methods run on.
package vip
