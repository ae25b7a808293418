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
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/inet"
)

const (
	// maxReply bounds how much of a reply is kept and searched.
	maxReply = 64 << 10
	// maxDatagram bounds a reply by UDP. It is smaller, since every waiting probe
	// has a buffer of this size.
	maxDatagram = 4 << 10
	// maxSearch bounds how many bytes are searched while a reply arrives in
	// pieces: each piece costs a search of the whole reply. Beyond maxSearch the
	// reply is searched once more, when it is complete.
	maxSearch = 64 * maxReply
)

// TCP is a [Checker] that opens a connection. With Expect or ExpectRegexp it
// reads the reply too, and so detects a program that hangs while the
// kernel still accepts connections for it.
//
// A connection without Send and without a reply is reset, as HAProxy's check does, so
// that frequent checks leave no TIME_WAIT behind on either side. Otherwise the
// connection is closed in order.
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
		closeInOrder(ctx, conn)
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
		reply = slices.Grow(reply, 1)
		n, err := r.Read(reply[len(reply):min(cap(reply), maxReply)])
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
// closes the connection: with a reset, unless closeInOrder was called.
func dial(ctx context.Context, network, address string) (conn net.Conn, release func(), err error) {
	conn, err = connect(ctx, network, address)
	if err != nil {
		return nil, nil, err
	}
	unbind := bindDeadline(ctx, conn)
	return conn, func() { unbind(); conn.Close() }, nil
}

// connect opens a connection to an address, or to that of an [At], which a [Proxied] begins
// with a PROXY header. Close resets the connection until closeInOrder decides otherwise.
func connect(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if at, ok := ctx.Value(atKey{}).(string); ok {
		address = at
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	if network == "udp" {
		conn, err = (&net.Dialer{Control: controlUDP}).DialContext(ctx, network, address)
	} else {
		conn, err = inet.Dial(ctx, network, address, nil)
	}
	if err == nil && inet.IsSelfConnected(conn) { // nobody else is there
		conn.Close()
		return nil, fmt.Errorf("dial %s %s: %w", network, address, inet.ErrSelfConnected)
	}
	if err == nil && network != "udp" {
		if err = sendProxyHeader(ctx, conn); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, err
}

// leaveGrace bounds how long the end of a connection may take once the server has
// proved healthy.
const leaveGrace = 200 * time.Millisecond

// closeInOrder announces the end of a connection and reads until the server ends the
// connection too: servers log a reset as an error. A connection whose server takes
// longer than leaveGrace, or sends more than maxReply, is reset all the same. The
// caller still calls Close.
func closeInOrder(ctx context.Context, conn net.Conn) {
	limitTime(ctx, conn, leaveGrace)
	if secure, ok := conn.(*tls.Conn); ok {
		_ = secure.CloseWrite() // close_notify
	}
	if tcp, ok := transport(conn).(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		readToEnd(tcp)
	}
}

// awaitClose reads until the server ends the connection, as it was asked to. Anything sent
// in that time, such as close_notify, would make the server's kernel send a reset. If the
// server does not end the connection, closeInOrder does.
func awaitClose(ctx context.Context, conn net.Conn) {
	limitTime(ctx, conn, leaveGrace/2)
	if tcp, ok := transport(conn).(*net.TCPConn); ok && !readToEnd(tcp) {
		closeInOrder(ctx, conn)
	}
}

// readToEnd reports whether the server ends a connection; Close then sends no reset.
func readToEnd(tcp *net.TCPConn) bool {
	n, err := io.Copy(io.Discard, io.LimitReader(tcp, maxReply))
	return err == nil && n < maxReply && tcp.SetLinger(-1) == nil
}

// transport returns the connection below the encryption.
func transport(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// limitTime bounds what follows by grace, and by the deadline of ctx.
func limitTime(ctx context.Context, conn net.Conn, grace time.Duration) {
	end := time.Now().Add(grace)
	if deadline, ok := ctx.Deadline(); !ok || end.Before(deadline) {
		_ = conn.SetDeadline(end)
	}
}

// bindDeadline ends reads and writes of conn when ctx is done.
func bindDeadline(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (unbind func()) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
