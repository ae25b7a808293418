// Package quietlog keeps whoever writes to a log from waiting for whoever reads
// it. A reader may be paused or gone for hours, as a terminal after Ctrl-S, a
// collector that is being restarted, or a container's log driver; a router that
// waits for it loses its addresses.
//
// [New] puts a queue in front of a logger, for packages that get one from their
// user. [Writer] puts one in front of a file, for a program whose log goes there:
// a logger of such a program needs no other queue, which is what [Unblocked] says.
//
// [Limited] leaves out what comes too often, and counts it: what anybody on the
// network can cause must not fill a disk.
//
// [Calls] does the same for functions that are told something.
//
// The queues are bounded. What does not fit is lost, counted, and owned up to
// when the log takes something again. None needs to be closed: a goroutine
// exists only while there is something to be written.
package quietlog
