// Package vip puts virtual addresses on an interface of this host, keeps them
// there for as long as this host is entitled to them, and takes them away when
// it is not.
//
// A [Manager] keeps the addresses of one virtual router. It compares the desired addresses
// with the actual ones, again and again: at the start it removes what a predecessor has
// left, an address that another program deletes is back within milliseconds, and an
// address that appears at the wrong time is removed. The Manager's addresses have a mark
// in the kernel (IFA_PROTO, since Linux 5.18; for older kernels there is a list under
// /run/havip). A Manager never touches an address without the mark. If such an
// address is one of the configured ones it is in the way, until somebody removes it or [Config].Takeover
// allows the Manager to remove the address.
//
// With a lease, which is the default, the kernel itself removes an address that is
// no longer renewed: a process that was killed or frozen gives its addresses up
// without anyone's help.
//
// Faults that would keep the addresses from being held, such as an interface that is
// down, are known beforehand: see [Manager.WatchFaults].
//
// *Manager has the three methods Acquire, Announce and Release, which is what
// package vrrp expects of a handler; package failover ties the two together. A
// Manager is just as useful to a program that elects its leader in another way:
//
//   - The program calls Acquire and Announce when elected, and Release before its term
//     ends: a Manager that runs renews the lease whatever the election says.
//   - A host that is frozen or killed holds the addresses for at most Lease and half
//     a second, the kernel's delay, after its last sign of life. If no other host is
//     elected within that time, two hosts never hold an address. If another host is
//     elected a shorter time t after the last sign of life, both may hold an address
//     for Lease + 0.5 s - t.
//   - OnLost tells the program of addresses that could not be kept: the program stands
//     for election again. Without OnLost and without a watcher Run ends with the loss
//     as its error.
//
// Ends come in this order: the election (a vrrp.Router), so that nothing is acquired
// any more; the Manager's Run, which removes the addresses; a guard, which would remove
// them for a process that dies before; the [Namespace], if Managers share one.
//
// The package uses netlink and packet sockets: it needs Linux, CAP_NET_ADMIN
// and CAP_NET_RAW. A Manager works in the network namespace of the thread that
// called [NewManager], whatever thread its other methods run on.
package vip
