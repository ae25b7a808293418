package lb

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// frankConn is a connection whose Read tells of a failure even if a Write has met with that
// before. The kernel tells of a reset once, whoever calls first. From then on Read finds an
// end, which looks like one in order: whoever passes that on has the peer take what came
// before for complete.
type frankConn struct {
	net.Conn
	awaiting func() error // is called before a Read; nil: nothing is
	ended    bool         // a Read has found the end in order

	mu      sync.Mutex // held by a Write
	failure error      // what a Write has met with
}

// frankBelow returns the frankConn that c, by way of TLS for instance, is a wrapper of; nil:
// there is none.
func frankBelow(c any) *frankConn {
	for {
		switch w := c.(type) {
		case *frankConn:
			return w
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		default:
			return nil
		}
	}
}

func (f *frankConn) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.Conn.Write(b)
	var errno syscall.Errno
	// EPIPE says that the kernel has told of the failure before, or that the peer had
	// ended its side in order when it reset the connection (tcp_reset in
	// net/ipv4/tcp_input.c).
	if errors.As(err, &errno) && errno != syscall.EPIPE {
		f.failure = err
	}
	return n, err
}

func (f *frankConn) Read(b []byte) (int, error) {
	if f.awaiting != nil {
		if err := f.awaiting(); err != nil {
			return 0, err
		}
	}
	n, err := f.Conn.Read(b)
	f.ended = f.ended || err == io.EOF
	if err == io.EOF && !halfClosed(f.Conn) {
		// A Write under way may have met with the failure. If so it returns at once.
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.failure != nil {
			err = f.failure
		}
	}
	return n, err
}

// hasMore reports whether it is known that a Read would not wait.
func (f *frankConn) hasMore() bool {
	_, raw := f.Conn.(syscall.Conn) // what lies under a TLS of somebody's Dial may be half a record
	return raw && isReadable(f.Conn)
}

// CloseWrite ends what the peer reads.
func (f *frankConn) CloseWrite() error { return closeWrite(f.Conn) }

// NetConn returns the connection itself, as that of tls.Conn does.
func (f *frankConn) NetConn() net.Conn { return f.Conn }
