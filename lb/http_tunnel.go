package lb

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// openTunnel relays the protocol that client and backend have agreed on, WebSocket for
// instance, until its end.
func (x *handling) openTunnel() {
	fields, err := x.switchFields(&x.res, x.sourceAddr())
	switch {
	case err != nil:
	case !x.uploadedWhole():
		err = errEarlySwitch
	case !x.registered:
		err = errCut
	}
	if err != nil {
		x.failRequest(fmt.Errorf("backend %s: %w", x.pick.Backend(), err))
		return
	}
	s := &x.session
	x.beginAnswer()
	client, buffered, err := x.rc.Hijack()
	if err != nil {
		x.failRequest(fmt.Errorf("taking over the client's connection: %w", err))
		return
	}
	x.responded(&x.res, x.private)
	x.result, x.record.Reason = Success, "ended before it was open"
	defer client.Close()
	// From now on the end of what the client sends must not end the request's context,
	// and with it the tunnel.
	if !x.unwatch() {
		return
	}
	_ = x.up.SetDeadline(time.Time{}) // the session has its own timeout
	s.mu.Lock()
	s.idle, s.client = x.cfg.TunnelTimeout, withBuffered(&frankConn{Conn: client}, buffered.Reader)
	s.mu.Unlock()
	if !s.attach(withBuffered(x.up.Conn, x.up.r)) {
		return
	}
	_ = client.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
	if writeSwitch(buffered.Writer, x.res.Reason, fields) != nil {
		return
	}
	_ = client.SetWriteDeadline(time.Time{})
	s.relay()
	x.record.Received, x.record.Sent, x.record.Reason = s.up.read.Load()+x.body.bytesRead(), s.down.written.Load(), s.why()
}

// writeSwitch writes a 101 (Switching Protocols).
func writeSwitch(w *bufio.Writer, reason string, fields []h1.Field) error {
	head := h1.AppendStatusLine(w.AvailableBuffer(), http.StatusSwitchingProtocols, reason)
	_, _ = w.Write(append(h1.AppendFields(head, fields), "\r\n"...))
	return w.Flush()
}

// withBuffered returns c with what r has read from it already.
func withBuffered(c net.Conn, r *bufio.Reader) net.Conn {
	early, _ := r.Peek(r.Buffered())
	return &prefaced{Conn: c, early: early}
}
