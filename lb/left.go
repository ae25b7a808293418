package lb

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// presence is what the connection of a client that waits for a backend tells of the
// client.
type presence uint8

const (
	present presence = iota
	// unsure: the client has sent something, and then its end. Maybe it waits for the
	// answer (half-close), or it has left: both look the same.
	unsure
	left
)

// errLeft: the client has left while it waited.
var errLeft = errors.New("client has left")

// lookAfter is when the connection of a client that waits is first looked at, if no event
// loop does that. Each pause is twice the one before, up to maxGlance: many may wait.
const lookAfter = 100 * time.Millisecond

// waitingClient can be looked at while it waits.
type waitingClient interface{ look() presence }

// look looks at a client of HTTP/1. Until its request has been read to its end, nobody else
// does: see followClient. Nobody waits for longer than Shutdown does.
func (x *handling) look() presence {
	switch {
	case x.session.interrupted() == errCut:
		return left
	case x.conn == nil:
		return present
	}
	ended, broken, _ := peerState(x.conn.conn)
	client := x.conn.halfClosing()
	switch {
	case broken, ended && client == nil:
		return left
	case ended:
		x.soundClient(client) // if it has left, the next look finds a broken connection
	}
	return present
}

// look looks at a client in a goroutine.
func (c *tcpConn) look() presence {
	c.mu.Lock()
	client := c.client
	c.mu.Unlock()
	ended, broken, unread := peerState(client)
	if f, ok := client.(*frankConn); ok { // no TLS as yet, or that of the listener
		client = f.Conn
	}
	switch client := client.(type) {
	case *prefaced:
		unread += len(client.early)
	case *tls.Conn:
		unread = 0 // that may be data, or say goodbye
		if ended && !broken && c.up.read.Load() == 0 {
			c.readAhead(client)
		}
	}
	return judge(ended, broken, unread > 0 || c.up.read.Load() > 0)
}

// readAhead reads some of what a client with TLS has sent before its end, and so does not
// wait. Some of it may have come together with the handshake.
func (c *tcpConn) readAhead(client *tls.Conn) {
	b := make([]byte, 512)
	n, _ := client.Read(b)
	c.ahead = b[:n]
	c.up.read.Add(int64(n))
}

// halfClosed reports whether the peer of c has ended what it sends, and nothing more: a
// reset ends both directions.
func halfClosed(c net.Conn) bool {
	ended, broken, _ := peerState(c)
	return ended && !broken
}

// judge says what a client does whose connection has ended, or is broken, and who has sent
// something or not.
func judge(ended, broken, sent bool) presence {
	switch {
	case broken, ended && !sent:
		return left
	case ended:
		return unsure
	}
	return present
}
