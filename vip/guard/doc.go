// Package guard holds a process's last will: what must still happen on the
// network when the process dies, in whatever way.
//
// The guard is a child process that does nothing but wait for its parent's
// end. When the parent dies, by a panic, by SIGKILL, for lack of memory, the
// kernel tells the child and closes the pipe between them. Within milliseconds
// the child carries out the wills that the parent left: it removes virtual
// addresses with prepared netlink requests, and then sends prepared packets,
// such as a VRRP advertisement of priority 0, upon which a peer takes over
// without waiting for three intervals to pass.
//
// The child is the same program, started by [Start]. It is recognised when this
// package is initialised, and never comes to main: other packages may be initialised
// before, and nothing else of the program runs twice.
//
//	g, err := guard.Start(guard.Config{})
//	go g.Run(ctx)
//	...
//	r := manager.Removals()
//	g.Set("router 51", guard.Will{Requests: r.Requests, Packets: packets, Filters: r.Filters, Settings: r.Settings})
//
// A program whose log has a form of its own calls [MainLog] first in main: there its
// guard begins, and says in that form what it has done. Package failover does all of
// this for a router and its addresses.
//
// What there is to be removed changes with the interfaces: Config.OnRemovals of
// package vip tells when to set the will anew.
//
// Wills are in memory that both processes share. Changing one takes no more
// than a copy and does not wake the child, so packets that are authenticated
// with a sequence number or the time can be kept fresh all the while.
//
// The child leaves its parent's process group and session, and ignores the
// signals that end a group. It needs the privileges to send raw packets and to
// change addresses: start it before they are dropped. A guard cannot help when
// both processes end at once, or the parent is stopped but not ended: that is
// what a lease on the addresses is for.
package guard
