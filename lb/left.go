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

// lookEvery is how often the connection of a client that waits is looked at, if no event
// loop does.
const lookEvery = 100 * time.Millisecond

// waitingClient can be looked at while it waits.
type waitingClient interface{ look() presence }

// look looks at a client of HTTP/1. Until its request has been read to its end, nobody else
// does: see followClient.
func (x *exchange) look() presence {
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
	if _, ok := client.(*tls.Conn); ok && unread <= maxAlert {
		unread = 0 // that is not data, but says goodbye
	}
	if p, ok := client.(*prefaced); ok {
		unread += len(p.early)
	}
	return judge(ended, broken, unread > 0 || c.up.read.Load() > 0)
}

// halfClosed reports whether the peer of c has ended what it sends, and nothing more: a
// reset ends both directions.
func halfClosed(c net.Conn) bool {
	ended, broken, _ := peerState(c)
	return ended && !broken
}

// maxAlert bounds the size of an encrypted alert: the header of its record, itself, padding
// and what authenticates it.
const maxAlert = 96

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
