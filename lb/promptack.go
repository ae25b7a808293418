package lb

import (
	"crypto/tls"
	"net"
	"syscall"

	"github.com/havip/havip/internal/field"
)

// promptWrites is how many writes of this side want a prompt acknowledgement of what
// follows: two in a handshake of TLS 1.2; three in one of TLS 1.3 with a HelloRetryRequest,
// which Go writes in two pieces.
const promptWrites = 3

// tlsServer returns the server's side of TLS on c, which has not shaken hands yet.
//
// A client without TCP_NODELAY holds its first request back until the end of its handshake
// has been acknowledged. No answer follows on that end, Go sends session tickets before
// (RFC 8446 §4.6.1 allows it), and the kernel waits 40 ms for an answer that might carry
// the acknowledgement along.
func tlsServer(c net.Conn, cfg *tls.Config) *tls.Conn {
	if t, ok := innermost(c).(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			c = &promptConn{Conn: c, raw: raw, left: promptWrites}
		}
	}
	return tls.Server(c, cfg)
}

// validateServerTLS returns what is wrong with the TLS of a server, which may be nil.
func validateServerTLS(c *tls.Config) error {
	return field.If(c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil,
		"TLS", "no certificate: want one, or a function that gets one")
}

// promptConn has the kernel acknowledge at once what the beginning of a connection brings.
// That costs a system call for each of the promptWrites, and nothing later.
type promptConn struct {
	net.Conn
	raw  syscall.RawConn
	left int // writes; tls.Conn lets one write after the other
}

// Write asks for the acknowledgements after it has written: writing is what makes the
// kernel wait for further answers (tcp(7), TCP_QUICKACK).
func (p *promptConn) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if p.left > 0 {
		p.left--
		acknowledge(p.raw)
	}
	return n, err
}

// CloseWrite ends what the peer reads.
func (p *promptConn) CloseWrite() error { return closeWrite(p.Conn) }

// NetConn returns the connection itself, as that of tls.Conn does.
func (p *promptConn) NetConn() net.Conn { return p.Conn }
