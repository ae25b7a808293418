package lb

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// aboutClient are headers with all variables of TLS.
var aboutClient = map[string]string{
	"X-Verified": "${client_cert_verified}", "X-Subject": "${client_cert_subject}", "X-Issuer": "${client_cert_issuer}",
	"X-Serial": "${client_cert_serial}", "X-Fingerprint": "${client_cert_fingerprint}", "X-Cert": "${client_cert}",
	"X-TLS": "${tls_version} ${tls_cipher}", "X-Server-Name": "${server_name}", "X-Mixed": "serial=${client_cert_serial}",
}

// spoofed are what a client may claim of itself: in other cases, and in names that programs
// behind CGI take for the same.
func spoofed(req *http.Request) {
	for name := range aboutClient {
		for _, claimed := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			req.Header[claimed] = []string{"claimed"}
		}
	}
	req.Header.Set("Connection", "X-Subject, X-Verified")
}

// headersOf returns the headers of aboutClient that a backend has got, and whatever else
// holds the client's claims.
func headersOf(h http.Header) map[string]string {
	got := make(map[string]string)
	for name, values := range h {
		if own := slices.ContainsFunc(values, func(v string) bool { return v == "claimed" }); own || aboutClient[strings.Replace(name, "Tls", "TLS", 1)] != "" {
			got[name] = strings.Join(values, " + ")
		}
	}
	return got
}

// TestClientCertificateInHeaders: backends learn of the client's certificate from here and
// from nowhere else, on full handshakes and resumed ones, by all versions of HTTP and TLS.
func TestClientCertificateInHeaders(t *testing.T) {
	a := newAuthority(t)
	certs := a.certificates(a.issue("a", "a.test"))
	pair := labtest.Certificate(&a.ca, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "Jürgen, Müller", Organization: []string{"Tests"}}
		c.SerialNumber = big.NewInt(0xABC)
	}, "client.test")
	escaped := strings.ReplaceAll(url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))), "+", "%20")
	sum := sha256.Sum256(pair.Certificate[0])
	ofPair := map[string]string{"X-Subject": `CN=J\C3\BCrgen\, M\C3\BCller,O=Tests`, "X-Issuer": "CN=test authority", "X-Serial": "0ABC",
		"X-Fingerprint": hex.EncodeToString(sum[:]), "X-Cert": escaped, "X-Mixed": "serial=0ABC"}
	for _, tt := range []struct {
		name     string
		auth     tls.ClientAuthType
		shows    bool
		verified string
	}{
		{"shown", tls.VerifyClientCertIfGiven, true, "SUCCESS"},
		{"not shown", tls.VerifyClientCertIfGiven, false, "NONE"},
		{"not asked for", tls.NoClientCert, true, "NONE"},
		{"not verified", tls.RequireAnyClientCert, true, "FAILED"},
	} {
		for _, plane := range []string{"http", "handler"} {
			for _, proto := range []string{"http/1.1", "h2"} {
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					t.Run(fmt.Sprint(tt.name, " ", plane, " ", proto, " ", tls.VersionName(version)), func(t *testing.T) {
						heard := make(chan map[string]string, 1)
						web := webBackend(t, func(w http.ResponseWriter, r *http.Request) { heard <- headersOf(r.Header) })
						server := &tls.Config{GetCertificate: certs.GetCertificate, ClientAuth: tt.auth, ClientCAs: a.pool, NextProtos: []string{"h2", "http/1.1"}}
						addr := secureFront(t, plane, server, HandlerConfig{RequestHeaders: aboutClient, Underscores: UnderscoresPass,
							Pool: newPool(t, PoolConfig{Backends: []Backend{web}})})
						client := &tls.Config{ServerName: "a.test", RootCAs: a.pool, MaxVersion: version, NextProtos: []string{proto}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
						if tt.shows {
							client.Certificates = []tls.Certificate{pair}
						}
						want := map[string]string{"X-Verified": tt.verified, "X-Server-Name": "a.test", "X-Mixed": "serial="}
						if tt.verified == "SUCCESS" || tt.verified == "FAILED" {
							for name, value := range ofPair {
								want[name] = value
							}
						}
						for i, resumed := range []bool{false, true} {
							state, err := askSpoofing(addr, client)
							if err != nil || state.DidResume != resumed || state.NegotiatedProtocol != proto {
								t.Fatalf("connection %d: resumed %v, %q, %v", i, state.DidResume, state.NegotiatedProtocol, err)
							}
							want["X-Tls"] = map[uint16]string{tls.VersionTLS12: "TLSv1.2 ", tls.VersionTLS13: "TLSv1.3 "}[version] + tls.CipherSuiteName(state.CipherSuite)
							if got := <-heard; !equalMaps(got, want) {
								t.Errorf("connection %d: got %v\nwant %v", i, got, want)
							}
						}
					})
				}
			}
		}
	}
}

func equalMaps(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// askSpoofing makes a request with the client's claims on a new connection.
func askSpoofing(addr string, client *tls.Config) (state tls.ConnectionState, err error) {
	tr := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: client.NextProtos[0] == "h2"}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("GET", "https://"+addr+"/", nil)
	if err != nil {
		return state, err
	}
	spoofed(req)
	if client.NextProtos[0] == "h2" {
		req.Header.Del("Connection") // HTTP/2 has none
	}
	res, err := (&http.Client{Transport: tr, Timeout: bound}).Do(req)
	if err != nil {
		return state, err
	}
	defer res.Body.Close()
	_, err = io.ReadAll(res.Body)
	return *res.TLS, err
}

// TestNoTLSInHeaders: without TLS there is nothing to tell, and no claim either.
func TestNoTLSInHeaders(t *testing.T) {
	heard := make(chan map[string]string, 1)
	s, _ := front(t, HandlerConfig{RequestHeaders: aboutClient, ResponseHeaders: map[string]string{"X-Version": "${tls_version}", "X-Verified": "${client_cert_verified}"}},
		webBackend(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Version", "claimed")
			heard <- headersOf(r.Header)
		}))
	req, err := http.NewRequest("GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	spoofed(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := <-heard, map[string]string{"X-Verified": "NONE", "X-Mixed": "serial=", "X-Tls": ""}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := res.Header; got["X-Version"] != nil || got.Get("X-Verified") != "NONE" {
		t.Errorf("response %v", got)
	}
}

// TestNamesAsOpenSSLWritesThem: programs compare the texts of names, which nginx has from
// OpenSSL.
func TestNamesAsOpenSSLWritesThem(t *testing.T) {
	lab.Need(t, "openssl")
	attribute := func(number string, value any) pkix.AttributeTypeAndValue {
		var oid asn1.ObjectIdentifier
		for _, n := range strings.Split(number, ".") {
			var i int
			fmt.Sscan(n, &i)
			oid = append(oid, i)
		}
		return pkix.AttributeTypeAndValue{Type: oid, Value: value}
	}
	raw := func(tag int, bytes string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(bytes)} }
	const cn = "2.5.4.3"
	for name, names := range map[string]pkix.RDNSequence{
		"usual": {{attribute("2.5.4.6", "DE")}, {attribute("2.5.4.10", "Tests")}, {attribute("2.5.4.11", "Lab")}, {attribute(cn, "client")}},
		"of a directory": {{attribute("0.9.2342.19200300.100.1.25", raw(asn1.TagIA5String, "org"))}, {attribute("0.9.2342.19200300.100.1.25", raw(asn1.TagIA5String, "example"))},
			{attribute("0.9.2342.19200300.100.1.1", "jm")}, {attribute("1.2.840.113549.1.9.1", raw(asn1.TagIA5String, "jm@example.org"))}},
		"all words": {{attribute("2.5.4.4", "a")}, {attribute("2.5.4.5", "b")}, {attribute("2.5.4.7", "c")}, {attribute("2.5.4.8", "d")}, {attribute("2.5.4.9", "e")},
			{attribute("2.5.4.12", "f")}, {attribute("2.5.4.13", "g")}, {attribute("2.5.4.17", "h")}, {attribute("2.5.4.41", "i")}, {attribute("2.5.4.42", "j")}, {attribute("2.5.4.43", "k")},
			{attribute("2.5.4.44", "l")}, {attribute("2.5.4.46", "m")}, {attribute("2.5.4.65", "n")}, {attribute("2.5.4.97", "o")}, {attribute("1.2.840.113549.1.9.2", "p")}},
		"two in one":        {{attribute(cn, "a"), attribute("2.5.4.10", "b")}, {attribute("2.5.4.11", "c")}},
		"with a meaning":    {{attribute(cn, `a,b+c"d\e<f>g;h=i`)}},
		"spaces":            {{attribute(cn, " a b ")}, {attribute("2.5.4.10", " ")}},
		"a hash":            {{attribute(cn, "#a#")}},
		"letters":           {{attribute(cn, "Jürgen 漢字")}},
		"control bytes":     {{attribute(cn, "a\r\nX-Evil: b\x00c\x7f")}},
		"Latin-1":           {{attribute(cn, raw(asn1.TagT61String, "J\xfcrgen"))}},
		"two bytes each":    {{attribute(cn, raw(asn1.TagBMPString, "\x00J\x00\xfc"))}},
		"an unknown type":   {{attribute("1.2.3.4.5", "x")}},
		"nothing in it":     {{attribute(cn, "")}, {attribute("2.5.4.10", "x")}},
		"no names":          {},
		"the same, again":   {{attribute(cn, "a")}, {attribute(cn, "b")}},
		"escaped at an end": {{attribute(cn, `a\`)}},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := asn1.Marshal(names)
			if err != nil {
				t.Fatal(err)
			}
			pair := labtest.Certificate(nil, func(c *x509.Certificate) { c.RawSubject = der })
			cmd := exec.CommandContext(t.Context(), "openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253")
			cert, _ := labtest.PEM(pair)
			cmd.Stdin = bytes.NewReader(cert)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want := strings.TrimSuffix(strings.TrimPrefix(string(out), "subject="), "\n")
			if got := string(appendDN(nil, pair.Leaf.RawSubject)); got != want {
				t.Errorf("%q, OpenSSL %q", got, want)
			}
		})
	}
}

// FuzzDN: a name is what a client says, as far as its authority lets it.
func FuzzDN(f *testing.F) {
	f.Add([]byte{0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 0x0a}) // CN, a line feed
	f.Add([]byte{0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x1e, 0x01, 0x41}) // CN, half a character
	f.Add([]byte{0x30, 0x00})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}) // longer than there is
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, c := range appendDN(nil, der) {
			if c < ' ' || c >= 0x7f {
				t.Errorf("%x: %q", der, appendDN(nil, der))
			}
		}
	})
}
