package lb

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
)

// What variables say of the client's TLS, in nginx's words where nginx has some. Without TLS,
// or without a certificate, they are empty, and a field of nothing else is left out.

// secureText is what variables say of a client's certificate.
type secureText struct {
	subject, issuer, serial, fingerprint string
	pem                                  string // nginx's $ssl_client_escaped_cert; empty: not made yet
}

var noText secureText // which nobody changes

// certificate returns the certificate that the client has shown; nil: none.
func (o *requestOrigin) certificate() *x509.Certificate {
	if o.secure == nil || len(o.secure.PeerCertificates) == 0 {
		return nil
	}
	return o.secure.PeerCertificates[0]
}

// about returns what is said of the client's certificate. It is made when a header has it
// for the first time: once a connection, or behind net/http once a request.
func (o *requestOrigin) about() *secureText {
	c := o.certificate()
	if o.text != nil || c == nil {
		return cmp.Or(o.text, &noText)
	}
	sum := sha256.Sum256(c.Raw)
	s := &secureText{
		subject: string(appendDN(nil, c.RawSubject)), issuer: string(appendDN(nil, c.RawIssuer)),
		serial:      strings.ToUpper(hex.EncodeToString(c.SerialNumber.Bytes())),
		fingerprint: hex.EncodeToString(sum[:]),
	}
	s.serial = cmp.Or(s.serial, "00")
	o.text = s
	return s
}

// escapedPEM returns the client's certificate as a text without line ends.
func (o *requestOrigin) escapedPEM() string {
	s, c := o.about(), o.certificate()
	if s.pem == "" && c != nil {
		s.pem = string(appendEscaped(nil, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	return s.pem
}

// verified says whether the client has shown a certificate of the authorities that the
// tls.Config names. A tls.Config may ask for one and leave the judgement to others: FAILED.
func (o *requestOrigin) verified() string {
	switch {
	case o.certificate() == nil:
		return "NONE"
	case len(o.secure.VerifiedChains) == 0:
		return "FAILED"
	}
	return "SUCCESS"
}

// protocol returns the version of TLS, as in TLSv1.3.
func (o *requestOrigin) protocol() string {
	if o.secure == nil {
		return ""
	}
	switch o.secure.Version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return strings.Replace(tls.VersionName(o.secure.Version), " ", "v", 1)
}

// cipher returns the name that IANA has for the suite of ciphers.
func (o *requestOrigin) cipher() string {
	if o.secure == nil {
		return ""
	}
	return tls.CipherSuiteName(o.secure.CipherSuite)
}

// serverName returns the name that the client has asked for in the handshake.
func (o *requestOrigin) serverName() string {
	if o.secure == nil {
		return ""
	}
	return o.secure.ServerName
}

// appendEscaped appends text with all but unreserved characters escaped (RFC 3986 §2.3).
func appendEscaped(b, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if alphanumeric(c) || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
