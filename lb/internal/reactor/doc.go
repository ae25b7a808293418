// Package reactor is what the event loops of package lb stand on, whatever they
// carry: TCP, UDP or HTTP.
//
// A [Loop] is an epoll instance of one goroutine, which calls Wait again and again
// and does what the events ask for. Other goroutines reach it through Post. [Timers]
// keep what has a deadline. The rest are system calls on descriptors that do not
// block: sockets, pipes, and batches of datagrams. None of them allocates memory.
//
// Only Linux has all of it; elsewhere there are the Timers alone.
package reactor
