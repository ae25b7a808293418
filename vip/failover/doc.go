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
//   - When the program is told to end, it gives the address up and says so: a peer
//     takes the address over after its skew time.
//   - When the program is killed or crashes, a child process does the same in its place:
//     see package guard.
//   - When the program is stopped, or the child is killed as well, the kernel removes the
//     address before a peer takes over: see Lease in package vip.
//   - A second program on the same host that runs the same virtual router does not touch
//     the address of the first: it waits until the first has ended.
//
// Without an address the package elects a leader, on whose host no address is put: only
// Config.VRRP.OnTransition says which host leads. A frozen program cannot say that it
// leads no more. Who writes to what others write to as well should ask
// [vrrp.Router.Entitled] right before.
//
// The package touches no signals. A program whose log goes to a pipe should ignore SIGPIPE,
// which would end it with whoever reads the log, by signal.Notify(make(chan os.Signal, 1),
// syscall.SIGPIPE).
//
// It needs Linux, CAP_NET_ADMIN and CAP_NET_RAW.
package failover
