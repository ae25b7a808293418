package healthcheck

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// authority is a certificate authority of a test.
type authority struct{ tls.Certificate }

func newAuthority(validFor time.Duration) *authority {
	return &authority{labtest.Certificate(nil, func(c *x509.Certificate) {
		valid(-time.Hour, validFor)(c)
		c.DNSNames = nil
	}, "test CA")}
}

func valid(from, to time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

// issue makes a certificate.
func (a *authority) issue(name string, from, to time.Duration) tls.Certificate {
	return labtest.Certificate(&a.Certificate, valid(from, to), name)
}

// trust returns a client's configuration.
func (a *authority) trust(name string) *tls.Config {
	return &tls.Config{RootCAs: labtest.Pool(a.Certificate), ServerName: name}
}

// serveTLS starts a server that makes the handshake and then calls handle.
func serveTLS(t *testing.T, config *tls.Config, handle func(net.Conn)) (address string) {
	return labtest.Listen(t, func(c net.Conn) {
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			handle(s)
		}
	})
}

const day = 24 * time.Hour

func TestTLS(t *testing.T) {
	ca, oldCA := newAuthority(3650*day), newAuthority(5*day)
	server := func(c tls.Certificate) string {
		return serveTLS(t, &tls.Config{Certificates: []tls.Certificate{c}}, silent)
	}
	good := server(ca.issue("www.example.com", -day, 60*day))
	expired := server(ca.issue("www.example.com", -60*day, -day))
	future := server(ca.issue("www.example.com", day, 60*day))
	underOldCA := server(oldCA.issue("www.example.com", -day, 60*day))
	config := ca.trust("www.example.com")
	in50Days := config.Clone()
	in50Days.Time = func() time.Time { return time.Now().Add(50 * day) }
	unverified := &tls.Config{InsecureSkipVerify: true}
	cert := ca.issue("www.example.com", -day, 60*day)
	slow := labtest.Listen(t, func(c net.Conn) {
		time.Sleep(300 * time.Millisecond)
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		if s.Handshake() == nil {
			drain(s)
		}
	})
	protocols := config.Clone()
	protocols.NextProtos = []string{"imap", "h2"}
	h2 := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}, silent)
	smtp := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"smtp"}}, silent)
	runCheckCases(t, []checkCase{
		{name: "good", checker: TLS{Address: good, Config: config}},
		{name: "long enough", checker: TLS{Address: good, Config: config, MinValidity: 59 * day}},
		{name: "not long enough", checker: TLS{Address: good, Config: config, MinValidity: 61 * day},
			want: "60.0 days, want at least 61.0"},
		{name: "not long enough, seen later", checker: TLS{Address: good, Config: in50Days, MinValidity: 14 * day},
			want: "10.0 days, want at least 14.0"},
		{name: "expired", checker: TLS{Address: expired, Config: config}, want: "expired"},
		{name: "expired, unverified", checker: TLS{Address: expired, Config: unverified}, want: "-1.0 days"},
		{name: "not yet valid", checker: TLS{Address: future, Config: config}, want: "not yet valid"},
		{name: "not yet valid, unverified", checker: TLS{Address: future, Config: unverified}, want: "is not valid before"},
		{name: "authority expires first", checker: TLS{Address: underOldCA, Config: oldCA.trust("www.example.com"), MinValidity: 14 * day},
			want: "CN=test CA is valid until"},
		{name: "slow", checker: TLS{Address: slow, Config: config}},
		{name: "protocol", checker: TLS{Address: h2, Config: protocols}},
		{name: "other protocols", checker: TLS{Address: smtp, Config: protocols}, want: "no application protocol"},
		{name: "no protocols", checker: TLS{Address: good, Config: protocols}, want: `none of the protocols ["imap" "h2"]`},
		{name: "wrong name", checker: TLS{Address: good, Config: ca.trust("www.example.org")}, want: "not www.example.org"},
		{name: "unknown authority", checker: TLS{Address: good, Config: &tls.Config{ServerName: "www.example.com"}}, want: "unknown authority"},
		{name: "certificate for a name, asked by address", checker: TLS{Address: good, Config: ca.trust("")}, want: "IP SANs"},
		{name: "unverified", checker: TLS{Address: good, Config: unverified, MinValidity: 59 * day}},
		{name: "not TLS", checker: TLS{Address: labtest.Listen(t, says(0, "220 mail ESMTP\r\n")), Config: config}, want: "does not look like a TLS handshake"},
		{name: "closes", checker: TLS{Address: labtest.Listen(t, saysAndCloses("")), Config: config}, want: "EOF"},
		{name: "silent", checker: TLS{Address: labtest.Listen(t, silent), Config: config}, patience: patience, is: isTimeout},
		{name: "half-open", checker: TLS{Address: halfOpen(t), Config: config}, patience: patience, is: isTimeout},
		{name: "flood", checker: TLS{Address: labtest.Listen(t, flood), Config: config}, want: "TLS handshake"},
		{name: "refused", checker: TLS{Address: lab.FreeAddress(t), Config: config}, want: "connection refused"},
	})
	wantCancellable(t, TLS{Address: halfOpen(t)})
	if (TLS{Address: good, MinValidity: -1}).Validate() == nil {
		t.Error("a negative validity is accepted")
	}
}
