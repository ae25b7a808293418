// Package failover lets one of several hosts at a time hold an address and serve: it
// ties packages vrrp, vip and guard together in the safe way.
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//		defer stop()
//		err := failover.Run(ctx, failover.Config{
//			VRRP: vrrp.Config{VRID: 51, OnTransition: report},
//			VIP:  vip.Config{Interface: "eth0", Addresses: []vip.Address{{Prefix: address}}},
//		})
//		...
//	}
//
// However such a program ends, the address is soon on one host, and on no other:
//
//   - When the program is told to end, it says so, and a peer takes the address over after
//     its skew time. The program keeps the address until then: both have the address for
//     as long as the peer's advertisement travels.
//   - When the program is killed or crashes, a child process says so in its place, and
//     removes the address: see package guard.
//   - When the program is frozen, or the child is killed as well, the kernel removes the
//     address before a peer takes over. At intervals below one second this is not certain,
//     and in the middle of a hand-over at none up to 8 s: the kernel's shortest lease is
//     1 s, and two hosts may have the address for up to two seconds.
//   - A second program on the same host that runs the same virtual router waits until the
//     first has ended, and does not touch its address.
//   - When the address cannot be held, as on an interface that is down, the host takes no
//     part in the election.
//
// # Without an address
//
// The same election chooses a leader for anything else. Config.VRRP.OnTransition says which
// host leads. Nothing ends the lead of a frozen program, for a lead has no lease: a leader
// that must be alone asks [vrrp.Router.Entitled] right before each action. An election
// alone needs CAP_NET_RAW only.
//
// # What is left to the program
//
// The package touches no signals. Where the log goes to a pipe, the program should take
// SIGPIPE, by signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE): otherwise the
// program dies when the reader of its log dies. Many Nodes can share a Namespace, a Conn
// and a guard: the program makes them, and closes all of them after the last Node.
//
// The package needs Linux, CAP_NET_ADMIN and CAP_NET_RAW. NoAccept needs package
// vip/filter.
package failover
