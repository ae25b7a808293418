package healthcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"time"
)

const (
	// maxReply bounds how much of a reply is kept and searched.
	maxReply = 64 << 10
	// maxDatagram is as much of a reply by UDP: less, since every probe that
	// waits has room for it.
	maxDatagram = 4 << 10
	// maxSearch bounds how many bytes are searched while a reply arrives in
	// pieces, each time all of it. After that it is searched at its end.
	maxSearch = 64 * maxReply
)

// TCP is a [Checker] that opens a connection. With Expect or ExpectRegexp it
// also looks at what comes back, and so finds the server that the kernel
// still accepts connections for though the program behind it hangs.
//
// A connection over which nothing was said is reset, not closed in order, so that
// frequent checks leave no TIME_WAIT behind on either side: that is what HAProxy's
// check does, too. After Send or a reply it is closed in order.
type TCP struct {
	// Address is "host:port" or "[v6]:port". Required.
	Address string
	// Send is written once the connection is open. Default: nothing.
	Send []byte
	// Expect must occur in the first 64 KiB of the reply, and ExpectRegexp
	// match there. Default: the reply is not read.
	Expect       []byte
	ExpectRegexp *regexp.Regexp
}

// String names the check in errors and log lines.
func (c TCP) String() string { return "tcp " + c.Address }

// WithDefaults returns c: the default of every field but Address is its zero.
func (c TCP) WithDefaults() TCP { return c }

// Validate reports an address that cannot be dialled.
func (c TCP) Validate() error { return validateAddress("Address", c.Address) }

// Check opens a connection and, if asked, talks over it.
func (c TCP) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c TCP) probe(ctx context.Context) error {
	expects := len(c.Expect) > 0 || c.ExpectRegexp != nil
	if !expects && len(c.Send) == 0 {
		conn, err := connect(ctx, "tcp", c.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	conn, release, err := dial(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	defer release()
	if _, err = conn.Write(c.Send); err == nil && expects {
		err = readUntil(conn, func(reply []byte) bool { return matches(reply, c.Expect, c.ExpectRegexp) })
	}
	if err == nil {
		leave(ctx, conn)
	}
	return err
}

// readUntil reads until done is satisfied with what was read so far.
func readUntil(r io.Reader, done func([]byte) bool) error {
	reply := make([]byte, 0, 512)
	searched := 0
	for {
		if len(reply) == maxReply {
			return fmt.Errorf("unexpected reply %s", excerpt(reply))
		}
		if len(reply) == cap(reply) {
			reply = append(make([]byte, 0, min(4*cap(reply), maxReply)), reply...)
		}
		n, err := r.Read(reply[len(reply):cap(reply)])
		reply = reply[:len(reply)+n]
		searched += len(reply)
		end := err != nil || len(reply) == maxReply
		if len(reply) > 0 && (searched <= maxSearch || end) && done(reply) {
			return nil
		}
		switch {
		case err == nil:
		case len(reply) > 0:
			return fmt.Errorf("unexpected reply %s (%w)", excerpt(reply), cause(err))
		case errors.Is(err, io.EOF):
			return errors.New("closed without a reply")
		default:
			return err
		}
	}
}

// matches reports whether reply has all that is expected of it.
func matches(reply, expect []byte, re *regexp.Regexp) bool {
	return bytes.Contains(reply, expect) && (re == nil || re.Match(reply))
}

// excerpt quotes the beginning of a foreign text for an error.
func excerpt(b []byte) string {
	const limit = 120
	if len(b) > limit {
		return fmt.Sprintf("%q...", b[:limit])
	}
	return fmt.Sprintf("%q", b)
}

// dial opens a connection whose reads and writes end when ctx is done. release
// closes it, with a reset unless leave has ended it in order.
func dial(ctx context.Context, network, address string) (conn net.Conn, release func(), err error) {
	conn, err = connect(ctx, network, address)
	if err != nil {
		return nil, nil, err
	}
	unbind := bind(ctx, conn)
	return conn, func() { unbind(); conn.Close() }, nil
}

// connect opens a connection.
func connect(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if network == "udp" {
		d.Control = controlUDP
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// Reset on close, until leave decides otherwise.
		_ = tcp.SetLinger(0)
	}
	return conn, nil
}

// leaveGrace is for how long a server that is healthy already may keep a checker that
// is about to leave.
const leaveGrace = 200 * time.Millisecond

// leave ends a connection in order: it says that nothing more will come, and takes
// what the server has to say until it agrees. Servers log a connection that is reset
// as a mistake. One that takes longer than leaveGrace, or says more than maxReply, is
// reset all the same. The connection is still to be closed.
func leave(ctx context.Context, conn net.Conn) {
	hurry(ctx, conn, leaveGrace)
	if secure, ok := conn.(*tls.Conn); ok {
		_ = secure.CloseWrite() // close_notify
	}
	if tcp, ok := transport(conn).(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		endsHere(tcp)
	}
}

// letEnd is leave for a server that was asked to end the connection: what it is told
// after that, such as close_notify, would make its kernel send the reset. One that
// does not end it is left.
func letEnd(ctx context.Context, conn net.Conn) {
	hurry(ctx, conn, leaveGrace/2)
	if tcp, ok := transport(conn).(*net.TCPConn); ok && !endsHere(tcp) {
		leave(ctx, conn)
	}
}

// endsHere reports whether the server ends a connection, which is then closed in
// order.
func endsHere(tcp *net.TCPConn) bool {
	n, err := io.Copy(io.Discard, io.LimitReader(tcp, maxReply))
	return err == nil && n < maxReply && tcp.SetLinger(-1) == nil
}

// transport is what a connection is made of without its encryption.
func transport(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// hurry leaves so much time for what does not matter any more, at most that of ctx.
func hurry(ctx context.Context, conn net.Conn, grace time.Duration) {
	end := time.Now().Add(grace)
	if deadline, ok := ctx.Deadline(); !ok || end.Before(deadline) {
		_ = conn.SetDeadline(end)
	}
}

// bind ends reads and writes of conn when ctx is done.
func bind(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (unbind func()) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
