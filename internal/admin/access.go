package admin

import (
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// access is what a client may do, and who it is.
type access struct {
	steers  bool
	who     string   // for the log, as "user 0 on the socket"
	hint    string   // without steers: what to do
	session *session // by which it steers; nil: otherwise
}

// accessOf finds out who asks. The error is about a wrong token: who shows one is told so,
// whatever is asked for.
func (s *Server) accessOf(c *call) (access, error) {
	if c.client.address == "" {
		return socketAccess(c.client.peer, c.set.Group), nil
	}
	a := access{who: "somebody at " + c.client.address, hint: "reading is all that is allowed here: set admin.token or admin.tls.client_ca in the file, or use the socket on the host"}
	if s.canLogIn(c.set) {
		a.hint = "this needs the header Authorization: Bearer TOKEN, or a client certificate of admin.tls.client_ca"
	}
	if given := c.r.Header.Values("Authorization"); len(given) > 0 {
		scheme, token, _ := strings.Cut(given[0], " ")
		if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") {
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="havip"`)
			return a, failf(http.StatusUnauthorized, "want one header Authorization: Bearer TOKEN")
		}
		if err := s.checkToken(c, strings.TrimSpace(token)); err != nil {
			return a, err
		}
		return access{steers: true, who: "the token, from " + c.client.address}, nil
	}
	if name, ok := s.certified(c); ok {
		return access{steers: true, who: fmt.Sprintf("certificate %q, from %s", name, c.client.address)}, nil
	}
	if cookie, err := c.r.Cookie(c.cookieName()); err == nil {
		if found := s.sessions.find(cookie.Value, c.set.token, time.Now()); found != nil {
			return access{steers: true, who: "the page, from " + c.client.address, session: found}, nil
		}
	}
	return a, nil
}

// socketAccess is that of a user of this host. One that the kernel does not tell may steer
// if the socket is its owner's alone.
func socketAccess(p peer, group string) access {
	switch {
	case !p.known:
		return access{steers: group == "", who: "a user on the socket", hint: "members of the group may only read: to steer, ask as root"}
	case p.uid == 0 || p.uid == os.Geteuid():
		return access{steers: true, who: fmt.Sprintf("user %d, process %d", p.uid, p.pid)}
	}
	return access{who: fmt.Sprintf("user %d, process %d", p.uid, p.pid),
		hint: fmt.Sprintf("user %d may only read: to steer, ask as root, or as the user that havip runs as", p.uid)}
}

// canLogIn reports whether anybody may steer by way of TCP.
func (s *Server) canLogIn(set *settings) bool {
	return set.token != secretSum{} || set.TLS != nil && set.TLS.ClientCA != ""
}

// checkToken compares a token, unless its sender has shown too many wrong ones.
func (s *Server) checkToken(c *call, token string) error {
	now := time.Now()
	if wait := s.guesses.wait(c.client.address, now); wait > 0 {
		c.w.Header().Set("Retry-After", fmt.Sprint(int(wait/time.Second)+1))
		return failf(http.StatusTooManyRequests, "too many wrong tokens from %s: wait %v", c.client.address, wait.Round(time.Second))
	}
	sum := sumOf(token)
	if c.set.token != (secretSum{}) && subtle.ConstantTimeCompare(sum[:], c.set.token[:]) == 1 {
		return nil
	}
	s.guesses.note(c.client.address, now)
	s.log.Warn("admin: a wrong token", "from", c.client.address, guessLimit.Times(1, guessKey(c.client.address)))
	c.w.Header().Set("WWW-Authenticate", `Bearer realm="havip", error="invalid_token"`)
	if c.set.token == (secretSum{}) {
		return failf(http.StatusUnauthorized, "no token is right here: set admin.token in the file")
	}
	return failf(http.StatusUnauthorized, "wrong token: want the one of admin.token in the file")
}

var (
	guessLimit  = quietlog.Limit{Every: time.Minute, Burst: 3, Subjects: 20}
	refuseLimit = quietlog.Limit{Every: time.Minute, Burst: 3, Subjects: 20}
)

// refused logs that somebody wanted to steer who may not.
func (s *Server) refused(c *call, rt *route) {
	s.log.Warn("admin: refused", "what", rt.method+" "+c.r.URL.Path, "who", c.by.who, refuseLimit.By(c.client.address))
}

// certified returns the name in a client certificate that the authority of the present
// settings has signed. It is judged for each request: the authority may have changed since
// the connection began, and a certificate end.
func (s *Server) certified(c *call) (name string, ok bool) {
	if c.r.TLS == nil || len(c.r.TLS.PeerCertificates) == 0 || c.set.files == nil {
		return "", false
	}
	authority := c.set.files.authority(s.log)
	if authority == nil {
		return "", false
	}
	rest := x509.NewCertPool()
	for _, cert := range c.r.TLS.PeerCertificates[1:] {
		rest.AddCert(cert)
	}
	own := c.r.TLS.PeerCertificates[0]
	_, err := own.Verify(x509.VerifyOptions{Roots: authority, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if name = own.Subject.CommonName; name == "" && len(own.DNSNames)+len(own.EmailAddresses) > 0 {
		name = append(own.DNSNames, own.EmailAddresses...)[0]
	}
	return name, err == nil
}

// checkOrigin reports a request that a page elsewhere has a browser send.
//
// By a name of its own whose address it changes to ours (DNS rebinding) a page could read
// as if it were ours: so the host that the request names must be this one. An address, as
// "localhost", is nobody's to give. Who shows a token is no browser of a stranger's page.
func (s *Server) checkOrigin(c *call) error {
	if c.client.address == "" {
		return nil
	}
	if c.r.Host != "" && c.r.Header.Get("Authorization") == "" && !c.set.knows(c.r.Host, s.log) {
		return failf(http.StatusMisdirectedRequest, "this host is not known as %.100q: ask by its address, or add the name to admin.hostnames", c.r.Host)
	}
	if err := http.NewCrossOriginProtection().Check(c.r); err != nil {
		return failf(http.StatusForbidden, "a page elsewhere asks: %v", err)
	}
	return nil
}

// knows reports whether a Host header may name this host.
func (set *settings) knows(host string, log *slog.Logger) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || set.names[host] {
		return true
	}
	return set.files != nil && set.files.names(host, log)
}
