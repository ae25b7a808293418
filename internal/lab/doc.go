// Package lab makes hosts out of network namespaces and joins them with
// bridges, for tests and for the demo. It needs Linux, and either root or
// permission to make user namespaces; nothing of the machine's own network is
// touched, and everything is gone when the lab is closed. Other platforms have only
// what their tests need: [Main], [Need], [Until] and the like.
//
// A test package that uses it calls [Main] from TestMain, which runs the tests
// of an ordinary user inside a user namespace; a program calls [Enter]. Then:
//
//	l := lab.New(t)
//	lb := l.MustHost("lb-01", "192.168.31.240/24")
//	client := l.MustHost("client", "192.168.31.9/24", "fd31::9/64")
//
// A host runs functions ([Host.Do]) and programs ([Host.Command]), opens sockets
// ([Host.Listen], [Host.DialContext]) and can be cut off in two ways: [Host.Cut]
// takes the carrier away, [Host.Isolate] leaves it. A host may have interfaces on
// several segments ([Lab.Segment], [Host.Attach]). Traffic is captured at a host or
// on a whole segment ([Host.Capture], [Segment.Capture]).
//
// An ordinary user's lab knows one user, root. Programs that start as root to become
// somebody else must be told to stay: nginx by "user root;" in its configuration.
//
// Goroutines that a function started by Do starts in turn run outside of the
// host; sockets stay in the host where they were opened. Inside Do, read
// /proc/thread-self/net rather than /proc/net; /proc/sys/net is the host's own.
package lab
