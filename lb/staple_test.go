package lb

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// respond is an OCSP response about a certificate of the authority; edit may be nil.
func (a *authority) respond(serial *big.Int, edit func(*ocsp.Response)) []byte {
	a.t.Helper()
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: serial, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(&r)
	}
	der, err := ocsp.CreateResponse(a.ca.Leaf, a.ca.Leaf, r, a.ca.PrivateKey.(crypto.Signer))
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// load reads the pair of f, with the authority's certificate behind it.
func (a *authority) load(f CertificateFile) tls.Certificate {
	a.t.Helper()
	c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issueChain is issue with the authority's certificate in the file.
func (a *authority) issueChain(file string, names ...string) CertificateFile {
	a.t.Helper()
	f := a.issue(file, names...)
	leaf, err := os.ReadFile(f.Cert)
	if err != nil {
		a.t.Fatal(err)
	}
	ca, _ := labtest.PEM(a.ca)
	writeFile(a.t, a.dir, file+".pem", string(leaf)+string(ca))
	return f
}

// TestParseStaple: what clients would stumble over is not stapled, and the reason is told.
func TestParseStaple(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	alone := a.load(a.issue("alone", "a.test"))
	chain := a.load(a.issueChain("chain", "a.test"))
	good := a.respond(chain.Leaf.SerialNumber, nil)
	now := time.Now()
	for _, tt := range []struct {
		name string
		cert tls.Certificate
		der  []byte
		want string
	}{
		{"good", chain, good, ""},
		{"good, without the issuer's certificate", alone, a.respond(alone.Leaf.SerialNumber, nil), ""},
		{"without an end", chain, a.respond(chain.Leaf.SerialNumber, func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), ""},
		{"of another authority", chain, other.respond(chain.Leaf.SerialNumber, nil), "bad OCSP signature"},
		{"for another certificate", chain, a.respond(big.NewInt(7), nil), "no response matching the supplied certificate"},
		{"revoked", chain, a.respond(chain.Leaf.SerialNumber, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Unix(1e9, 0) }),
			"the certificate is revoked since 2001-09-09T01:46:40Z: replace it"},
		{"unknown", chain, a.respond(chain.Leaf.SerialNumber, func(r *ocsp.Response) { r.Status = ocsp.Unknown }), "the responder does not know the certificate"},
		{"expired", chain, a.respond(chain.Leaf.SerialNumber, func(r *ocsp.Response) { r.NextUpdate = time.Unix(1e9, 0) }), "expired on 2001-09-09T01:46:40Z: fetch another one"},
		{"not valid yet", chain, a.respond(chain.Leaf.SerialNumber, func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = time.Unix(4e9, 0), time.Unix(5e9, 0) }),
			"valid from 2096-10-02T07:06:40Z on"},
		{"the responder's refusal", chain, ocsp.TryLaterErrorResponse, "the responder refused: try later"},
		{"PEM", chain, []byte("\n-----BEGIN OCSP RESPONSE-----\n"), "in PEM form: want DER"},
		{"empty", chain, nil, "no OCSP response in DER form"},
		{"cut", chain, good[:len(good)-1], "no OCSP response in DER form"},
		{"changed", chain, append(slices.Clone(good[:len(good)-1]), ^good[len(good)-1]), "bad OCSP signature"},
		{"with something behind it", chain, append(slices.Clone(good), 0), "trailing data"},
	} {
		s, err := ParseStaple(tt.der, &tt.cert)
		if err == nil {
			err = s.Check(now)
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// FuzzParseStaple: no file ends the process, and one that is accepted is a response for the
// certificate that says so again.
func FuzzParseStaple(f *testing.F) {
	ca := labtest.Certificate(nil, nil, "test authority")
	cert := labtest.Certificate(&ca, nil, "a.test")
	cert.Certificate = append(cert.Certificate, ca.Certificate[0])
	good, err := ocsp.CreateResponse(ca.Leaf, ca.Leaf, ocsp.Response{SerialNumber: cert.Leaf.SerialNumber, ThisUpdate: time.Now()}, ca.PrivateKey.(crypto.Signer))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(ocsp.MalformedRequestErrorResponse)                // SEQUENCE { ENUMERATED 1 }
	f.Add([]byte{0x30, 0x80, 0x0a, 0x01, 0x00, 0, 0})        // of indefinite length, which DER has not
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})        // longer than there is
	f.Add([]byte("-----BEGIN OCSP RESPONSE-----\nMAMKAQE=")) // PEM
	f.Fuzz(func(t *testing.T, der []byte) {
		if s, err := ParseStaple(der, &cert); err == nil && (!bytes.Equal(s.der, der) || s.From.IsZero()) {
			t.Errorf("accepted %x as %+v", der, s)
		}
	})
}

// TestStapleIsReloaded: a response goes out while it is good, and a bad one keeps nobody
// from serving.
func TestStapleIsReloaded(t *testing.T) {
	a := newAuthority(t)
	f := a.issueChain("a", "a.test")
	serial := a.load(f).Leaf.SerialNumber
	f.Staple = a.dir + "/a.der"
	certs := a.certificates(f)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		addr := tlsNode(t, "tcp", &tls.Config{GetCertificate: certs.GetCertificate}, nil)
		for _, step := range []struct {
			name  string
			der   []byte // nil: no file
			want  string // of StapleError
			plain bool   // and none goes out
		}{
			{"not there yet", nil, "OCSP response " + f.Staple + ": no such file or directory", true},
			{"good", a.respond(serial, nil), "", false},
			{"rubbish", []byte("rubbish"), "no OCSP response in DER form", true},
			{"another one", a.respond(serial, func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(2 * time.Hour) }), "", false},
			{"expired", a.respond(serial, func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Minute) }), "OCSP response " + f.Staple + ": expired on ", true},
		} {
			if step.der == nil {
				if err := os.Remove(f.Staple); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			} else {
				writeFile(t, a.dir, "a.der", string(step.der))
			}
			if err := certs.Reload(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			state, err := askHello(t, addr, &tls.Config{ServerName: "a.test", RootCAs: a.pool, MaxVersion: version})
			if want := map[bool][]byte{false: step.der}[step.plain]; err != nil || !bytes.Equal(state.OCSPResponse, want) {
				t.Errorf("%s: %v, stapled %x, want %x", step.name, err, state.OCSPResponse, want)
			}
			if err := certs.List()[0].StapleError(time.Now()); (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
				t.Errorf("%s: %v, want %q", step.name, err, step.want)
			}
		}
	}
}

// TestStapleEnds: without a reload a response goes out until its end, and no longer.
func TestStapleEnds(t *testing.T) {
	a := newAuthority(t)
	f := a.issueChain("a", "a.test")
	f.Staple = writeFile(t, a.dir, "a.der", "")
	serial := a.load(f).Leaf.SerialNumber
	synctest.Test(t, func(t *testing.T) {
		writeFile(t, a.dir, "a.der", string(a.respond(serial, func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = time.Now(), time.Now().Add(time.Hour) })))
		certs := a.certificates(f)
		for _, step := range []struct {
			wait time.Duration
			want bool
		}{{0, true}, {time.Hour - time.Second, true}, {time.Second, false}} {
			time.Sleep(step.wait)
			got, err := certs.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.test"})
			if err != nil || (got.OCSPStaple != nil) != step.want {
				t.Errorf("after another %v: stapled %v, %v", step.wait, got.OCSPStaple != nil, err)
			}
		}
	})
}

// TestOpenSSLSeesStaple: another implementation's client gets the response, and believes it.
func TestOpenSSLSeesStaple(t *testing.T) {
	lab.Need(t, "openssl")
	a := newAuthority(t)
	f := a.issueChain("a", "a.test")
	f.Staple = writeFile(t, a.dir, "a.der", string(a.respond(a.load(f).Leaf.SerialNumber, nil)))
	for _, plane := range []string{"tcp", "http", "handler"} {
		addr := tlsNode(t, plane, &tls.Config{GetCertificate: a.certificates(f).GetCertificate}, nil)
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", addr, "-servername", "a.test", "-CAfile", a.writeCA(),
				"-verify_return_error", "-status", version)
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("OCSP Response Status: successful")) || !bytes.Contains(out, []byte("Cert Status: good")) {
				t.Errorf("%s %s: %v\n%s", plane, version, err, out)
			}
		}
	}
}
