// Package guard keeps a process's last will: what must still happen on the network when
// the process dies, in whatever way.
//
// The guard is a child process that only waits for its parent's end. When the parent dies,
// by a panic, by SIGKILL or for lack of memory, the kernel signals the child and closes the
// pipe between the two. Within milliseconds the child carries out the parent's wills: it
// removes virtual addresses with prepared netlink requests, and then sends prepared
// packets. By a VRRP advertisement of priority 0 a peer takes over without waiting for
// three intervals.
//
// The child is the same program, started by [Start] and again whenever it dies. It becomes a
// guard when this package is initialised, and never reaches main: of the rest of the program
// only packages that are initialised before this one run twice.
//
//	g, err := guard.Start(guard.Config{})
//	defer g.Close()
//	...
//	r := manager.Removals()
//	g.Set("router 51", guard.Will{
//		Requests: r.Requests, Packets: packets, Filters: r.Filters, Settings: r.Settings,
//	})
//
// A program whose log has a form of its own calls [MainLog] first in main. Its child becomes
// a guard there, and logs in that form. Package failover does all of this for a router and
// its addresses.
//
// Removals change with the interfaces: Config.OnRemovals of package vip says when to set
// the will anew. The order of ends: first take back what the will is about, then end the
// guard.
//
// Wills are in memory that both processes share. Set costs a copy and does not wake the
// child, so packets that are authenticated with a sequence number or the time can be kept
// fresh.
//
// The child leaves its parent's process group and session, and ignores the signals that end
// a group. It needs the privileges to send raw packets and to change addresses: call Start
// before dropping privileges. A guard cannot help when both processes end at once, or when
// the parent is stopped: for that the addresses have a lease.
package guard
