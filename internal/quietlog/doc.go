// Package quietlog writes logs without waiting for their readers. A reader may be
// paused or gone for hours: a terminal after Ctrl-S, a collector that restarts, a
// container's log driver. A router that waits for its log loses its addresses.
//
// [New] puts a queue in front of a logger, for packages that get a logger from their user.
// [Writer] puts a queue in front of a file, for a program whose log goes there. Such a
// program marks its handler as [Unblocked]: its loggers need no second queue.
//
// [Limited] leaves out lines that come too often, and counts them: lines that anybody on
// the network can cause must not fill a disk. A [Limit] says how often a line may come.
//
// [Calls] is a queue for calls of functions, in place of lines.
//
// The queues are bounded. Lines that do not fit are lost and counted, and the count is
// logged when the log accepts lines again. No queue needs to be closed: its goroutine
// exists only while lines wait.
package quietlog
