package lb

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// openTunnel relays the protocol that client and backend have agreed on, WebSocket for
// instance, until its end.
func (x *handling) openTunnel(res *http.Response) {
	switch chosen := upgradesOf(res.Header); {
	case len(chosen) != 1 || !slices.ContainsFunc(x.upgrades, func(p string) bool { return strings.EqualFold(p, chosen[0]) }):
		x.result = Failure
		x.failRequest(fmt.Errorf("backend %s: switched to protocol %q, asked for %q", x.pick.Backend(), chosen, x.upgrades))
		return
	case !x.uploadedWhole():
		x.failRequest(fmt.Errorf("backend %s: switched to protocol %q before the end of the request", x.pick.Backend(), chosen))
		return
	case !x.registered:
		x.failRequest(errCut)
		return
	}
	s := &x.session
	x.beginAnswer()
	client, buffered, err := x.rc.Hijack()
	if err != nil {
		x.failRequest(fmt.Errorf("taking over the client's connection: %w", err))
		return
	}
	x.result, x.record.Status, x.record.Reason = Success, res.StatusCode, "ended before it was open"
	x.pick.Report(Success) // the end may be far
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
	// The header stays as it came: it tells what was negotiated about the protocol.
	x.setHeaders(res.Header, x.cfg.ResponseHeaders, x.pick.Backend(), x.sourceAddr())
	_ = client.SetWriteDeadline(time.Now().Add(x.cfg.ClientTimeout))
	if writeSwitch(buffered.Writer, res) != nil {
		return
	}
	_ = client.SetWriteDeadline(time.Time{})
	s.relay()
	x.record.Received, x.record.Sent, x.record.Reason = s.up.read.Load()+x.body.bytesRead(), s.down.written.Load(), s.why()
}

// writeSwitch writes a 101 (Switching Protocols). It has no body, hence no framing, which
// http.Response.Write would add.
func writeSwitch(w *bufio.Writer, res *http.Response) error {
	fmt.Fprintf(w, "HTTP/1.1 %s\r\n", res.Status)
	_ = res.Header.WriteSubset(w, map[string]bool{"Content-Length": true, "Trailer": true})
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// withBuffered returns c with what r has read from it already.
func withBuffered(c net.Conn, r *bufio.Reader) net.Conn {
	early, _ := r.Peek(r.Buffered())
	return &prefaced{Conn: c, early: early}
}
