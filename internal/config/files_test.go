package config

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/havip/havip/internal/lab/labtest"
)

// newPair is a certificate for www.example.org and its key, in PEM form.
func newPair(from, to time.Time) (certificate, key []byte) {
	return labtest.PEM(labtest.Certificate(nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }, "www.example.org"))
}

var anyFile = sync.OnceValue(func() []byte {
	certificate, key := newPair(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	return slices.Concat(certificate, key)
})

// pretend is Parse where each file that the configuration names holds a
// certificate and its key, or session-ticket keys or users if that is its name.
func pretend(name string, data []byte) (*Config, error) {
	d := newDecoder(name)
	d.read = func(path string) ([]byte, error) {
		if strings.Contains(path, "ticket") {
			return make([]byte, 80), nil
		}
		if strings.Contains(path, "htpasswd") {
			return []byte("user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="), nil
		}
		return anyFile(), nil
	}
	return d.parse(data)
}

// TestPrivateKeyThatOthersRead: every key that names a private key warns of a file
// that others could read or change, with what mends it, and of no other file.
func TestPrivateKeyThatOthersRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	write := func(name string, mode fs.FileMode, gid int, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, data, 0o600)
		if err == nil && gid > 0 {
			err = os.Chown(path, -1, gid)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("web.pem", 0o644, 0, cert)
	const text = `checks:
  c: {type: http, tls: {certificate: DIR/web.pem, key: DIR/KEY}}
  own: {type: tls, address: "192.0.2.7:443", tls: {certificate: DIR/web.pem, key: DIR/KEY}}
services:
  - {name: a, listen: ":443", backends: ["192.0.2.7:80"], tls: {certificates: [{certificate: DIR/web.pem, key: DIR/KEY}]}, check: c}
  - {name: b, listen: ":444", backends: ["192.0.2.7:80"], tls: {certificates: [DIR/KEY]}}
  - {name: c, listen: ":445", backends: ["192.0.2.7:80"], backend_tls: {certificate: DIR/web.pem, key: DIR/KEY}}
  - {name: d, listen: ":446", backends: ["192.0.2.7:80"], backend_tls: {certificate: DIR/KEY}, check: {type: http, tls: {certificate: DIR/web.pem, key: DIR/KEY}}}
vrrp: [{name: v, interface: eth0, vrid: 51, addresses: [192.0.2.1], track: [{check: own}]}]
`
	keys := []string{"checks.c.tls.key", "checks.own.tls.key", "services[0].tls.certificates[0].key", "services[1].tls.certificates[0].certificate",
		"services[2].backend_tls.key", "services[3].backend_tls.certificate", "services[3].check.tls.key"}
	for _, tc := range []struct {
		name string
		mode fs.FileMode
		gid  int
		want string
	}{
		{"private", 0o600, 0, ""},
		{"only readable", 0o400, 0, ""},
		{"readable by root's group", 0o640, 0, ""},
		{"readable by another group", 0o640, 4242, "mode 0640 lets group 4242 at the private key: chmod 600 DIR/readable-by-another-group"},
		{"readable by all", 0o644, 0, "mode 0644 lets others at the private key: chmod 600 DIR/readable-by-all"},
		{"writable by all", 0o602, 0, "mode 0602 lets others at the private key: chmod 600 DIR/writable-by-all"},
	} {
		if os.Geteuid() != 0 && strings.Contains(tc.name, "group") {
			continue
		}
		file := strings.ReplaceAll(tc.name, " ", "-")
		write(file, tc.mode, tc.gid, slices.Concat(cert, key))
		c, err := Parse("f.yaml", []byte(strings.NewReplacer("DIR", dir, "KEY", file).Replace(text)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range c.Warnings {
			got = append(got, w.Path)
			if want := strings.ReplaceAll(tc.want, "DIR", dir); w.Text != want || want == "" {
				t.Errorf("%s: %v, want %q", tc.name, w, want)
			}
		}
		if tc.want != "" && fmt.Sprint(got) != fmt.Sprint(keys) {
			t.Errorf("%s: warnings of %v, want %v", tc.name, got, keys)
		}
	}
}

// TestStapleFiles: a response that clients will not get is a warning, since it keeps nobody
// from serving, and another response is another configuration.
func TestStapleFiles(t *testing.T) {
	dir := t.TempDir()
	ca := labtest.Certificate(nil, nil, "authority")
	pair := labtest.Certificate(&ca, nil, "www.example.org")
	cert, key := labtest.PEM(pair)
	respond := func(until time.Time) []byte {
		der, err := ocsp.CreateResponse(ca.Leaf, ca.Leaf, ocsp.Response{SerialNumber: pair.Leaf.SerialNumber, ThisUpdate: time.Unix(1e9, 0), NextUpdate: until}, ca.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if err := os.WriteFile(filepath.Join(dir, "web.pem"), slices.Concat(cert, key), 0o600); err != nil {
		t.Fatal(err)
	}
	digests := make(map[string]string)
	for _, tc := range []struct {
		name, want string
		der        []byte // nil: no file
	}{
		{"none", "no such file or directory: clients get none", nil},
		{"good", "", respond(time.Now().Add(time.Hour))},
		{"renewed", "", respond(time.Now().Add(2 * time.Hour))},
		{"expired", "expired on 2001-09-09T01:46:50Z: fetch another one: clients get none", respond(time.Unix(1e9+10, 0))},
		{"rubbish", "no OCSP response in DER form: ", []byte("rubbish")},
	} {
		if tc.der != nil {
			if err := os.WriteFile(filepath.Join(dir, "web.der"), tc.der, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Parse("f.yaml", []byte("services: [{name: web, listen: \":443\", backends: [\"192.0.2.7:80\"], tls: {certificates: [{certificate: "+dir+"/web.pem, ocsp_staple: "+dir+"/web.der}]}}]"))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		switch w := c.Warnings; {
		case tc.want == "" && len(w) == 0:
		case tc.want == "" || len(w) != 1 || w[0].Path != "services[0].tls.certificates[0].ocsp_staple" || !strings.HasPrefix(w[0].Text, dir+"/web.der: "+tc.want):
			t.Errorf("%s: %v, want %q", tc.name, w, tc.want)
		}
		digest := c.Services[0].TLS.Digest
		if other, ok := digests[digest]; ok {
			t.Errorf("%s is the same as %s", tc.name, other)
		}
		digests[digest] = tc.name
	}
}

// TestCertificatesOfClientsInHeaders: whoever wants them in headers, and does not ask for
// them, hears that the headers stay empty.
func TestCertificatesOfClientsInHeaders(t *testing.T) {
	const want = "${client_cert...} is always empty, or NONE: clients are asked for certificates only with client_ca under tls"
	for _, tc := range []struct {
		name, rest string
		paths      []string
	}{
		{"no TLS", `http: {request_headers: {X-A: "${client_cert}", X-B: "${client_cert_serial}"}}`, []string{"services[0].http.request_headers"}},
		{"no client_ca", `tls: {certificates: [/web.pem]}, http: {response_headers: {X-A: "${client_cert_verified}"}}`, []string{"services[0].http.response_headers"}},
		{"client_ca", `tls: {certificates: [/web.pem], client_ca: /ca.pem}, http: {request_headers: {X-A: "${client_cert}"}}`, nil},
		{"other variables", `http: {request_headers: {X-A: "${client} ${tls_version}"}}`, nil},
	} {
		c, err := pretend("f.yaml", []byte(`services: [{name: web, listen: ":443", backends: ["192.0.2.7:80"], `+tc.rest+`}]`))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		var got []string
		for _, w := range c.Warnings {
			if got = append(got, w.Path); w.Text != want {
				t.Errorf("%s: %v, want %q", tc.name, w, want)
			}
		}
		if !slices.Equal(got, tc.paths) {
			t.Errorf("%s: warnings of %v, want %v", tc.name, got, tc.paths)
		}
	}
}

// TestTicketKeyFiles: a file that is no key is an error, one that others read a warning, and
// another key another configuration.
func TestTicketKeyFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.pem"), anyFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	digests := make(map[string]string)
	for _, tc := range []struct {
		name    string
		key     []byte
		mode    fs.FileMode
		fails   string
		warning string
		sameAs  string
	}{
		{name: "80 bytes", key: make([]byte, 80), mode: 0o600},
		{name: "48 bytes", key: make([]byte, 48), mode: 0o600},
		{name: "readable by all", key: make([]byte, 48), mode: 0o644, sameAs: "48 bytes",
			warning: "services[0].tls.session_ticket_keys[0]: mode 0644 lets others at the private key: chmod 600 " + dir + "/ticket.key"},
		{name: "32 bytes", key: make([]byte, 32), mode: 0o600, fails: "services[0].tls.session_ticket_keys[0]: " + dir + "/ticket.key: 32 bytes: want 48 or 80, such as openssl rand 80 makes"},
		{name: "empty", mode: 0o600, fails: "services[0].tls.session_ticket_keys[0]: " + dir + "/ticket.key: 0 bytes: want 48 or 80"},
	} {
		path := filepath.Join(dir, "ticket.key")
		if err := errors.Join(os.WriteFile(path, tc.key, 0o600), os.Chmod(path, tc.mode)); err != nil {
			t.Fatal(err)
		}
		c, err := Parse("f.yaml", []byte("services: [{name: web, listen: \":443\", backends: [\"192.0.2.7:80\"], tls: {certificates: ["+dir+"/web.pem], session_ticket_keys: ["+path+"]}}]"))
		if (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.fails)
		}
		if err != nil {
			continue
		}
		if text := fmt.Sprint(c.Warnings); (len(c.Warnings) == 0) != (tc.warning == "") || !strings.Contains(text, tc.warning) {
			t.Errorf("%s: %v, want %q", tc.name, text, tc.warning)
		}
		digest := c.Services[0].TLS.Digest
		if digests[digest] != tc.sameAs {
			t.Errorf("%s is the same as %q, want %q", tc.name, digests[digest], tc.sameAs)
		}
		digests[digest] = tc.name
	}
}

// TestCertificateFiles: what is wrong with a file is said where it is named.
func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	cert, key := newPair(now.Add(-time.Hour), now.Add(time.Hour))
	other, _ := newPair(now.Add(-time.Hour), now.Add(time.Hour))
	expired, expiredKey := newPair(time.Unix(0, 0), time.Unix(86400*365, 0))
	future, futureKey := newPair(time.Unix(4e9, 0), time.Unix(4e9+1, 0))
	for name, data := range map[string][]byte{
		"web.pem": cert, "web.key": key, "other.pem": other, "both.pem": slices.Concat(cert, key), "expired.pem": slices.Concat(expired, expiredKey),
		"future.pem": slices.Concat(future, futureKey), "empty.pem": nil, "huge.pem": make([]byte, maxFile+1),
	} {
		write(name, data)
	}
	const head = "services:\n  - name: web\n    listen: \":443\"\n    backends: [\"192.0.2.7:80\"]\n"
	for _, tc := range []struct{ name, text, want, warning string }{
		{"good", "    tls: {certificates: [{certificate: DIR/web.pem, key: DIR/web.key}], client_ca: DIR/other.pem}", "", ""},
		{"one file", "    tls: {certificates: [DIR/both.pem]}", "", ""},
		{"backends", "    backend_tls: {ca: DIR/other.pem, certificate: DIR/both.pem}", "", ""},
		{"no such file", "    tls:\n      certificates:\n        - {certificate: DIR/none.pem, key: DIR/web.key}",
			"f.yaml:7:25: services[0].tls.certificates[0].certificate: DIR/none.pem: no such file or directory", ""},
		{"no such key", "    tls:\n      certificates:\n        - certificate: DIR/web.pem\n          key: DIR/none.key",
			"f.yaml:8:16: services[0].tls.certificates[0].key: DIR/none.key: no such file or directory", ""},
		{"a directory", "    tls: {certificates: [DIR]}", "f.yaml:5:26: services[0].tls.certificates[0].certificate: DIR: not a regular file", ""},
		{"too large", "    tls: {certificates: [DIR/huge.pem]}", "f.yaml:5:26: services[0].tls.certificates[0].certificate: DIR/huge.pem: larger than 4 MiB", ""},
		{"key of another", "    tls:\n      certificates:\n        - {certificate: DIR/other.pem, key: DIR/web.key}",
			"f.yaml:7:11: services[0].tls.certificates[0]: certificate DIR/other.pem, key DIR/web.key: private key does not match public key", ""},
		{"no certificate in it", "    tls: {certificates: [DIR/web.key]}",
			"f.yaml:5:26: services[0].tls.certificates[0]: certificate DIR/web.key, key DIR/web.key: failed to find certificate PEM data", ""},
		{"no key in it", "    tls: {certificates: [DIR/web.pem]}", "f.yaml:5:26: services[0].tls.certificates[0]: certificate DIR/web.pem, key DIR/web.pem: ", ""},
		{"empty authorities", "    tls: {certificates: [DIR/both.pem], client_ca: DIR/empty.pem}",
			"services[0].tls.client_ca: DIR/empty.pem: no certificates in PEM form", ""},
		{"own certificate towards backends", "    backend_tls: {certificate: DIR/other.pem, key: DIR/web.key}",
			"f.yaml:5:18: services[0].backend_tls: certificate DIR/other.pem, key DIR/web.key: private key does not match", ""},
		{"expired", "    tls: {certificates: [DIR/expired.pem]}", "",
			"f.yaml:5:26: services[0].tls.certificates[0]: DIR/expired.pem: expired on 1971-01-01 00:00 UTC"},
		{"not yet valid", "    tls: {certificates: [DIR/future.pem]}", "", "DIR/future.pem: valid from 2096-10-02 07:06 UTC on"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(head+strings.ReplaceAll(tc.text, "DIR", dir)))
			want := strings.ReplaceAll(tc.want, "DIR", dir)
			switch {
			case want == "" && err != nil:
				t.Fatal(err)
			case want == "":
				if s := c.Services[0]; (s.TLS == nil || s.TLS.Digest == "") && (s.BackendTLS == nil || s.BackendTLS.Digest == "") {
					t.Error("no digest")
				}
				got := ""
				for _, w := range c.Warnings {
					got += w.Error()
				}
				if warning := strings.ReplaceAll(tc.warning, "DIR", dir); !strings.Contains(got, warning) || (warning == "") != (got == "") {
					t.Errorf("warnings %q, want %q", got, warning)
				}
			case err == nil || !strings.Contains(err.Error(), want):
				t.Errorf("%v, want %s", err, want)
			case c == nil || len(c.Services) != 1:
				t.Error("what else there is cannot be used")
			}
		})
	}

	// A renewed certificate is a change though the text is the same.
	load := func() Service {
		t.Helper()
		c, err := Parse("f.yaml", []byte(head+"    tls: {certificates: [{certificate: "+dir+"/web.pem, key: "+dir+"/web.key}]}"))
		if err != nil {
			t.Fatal(err)
		}
		return c.Services[0]
	}
	before := load()
	if !before.Equal(load()) {
		t.Error("the same files are a change")
	}
	cert, key = newPair(now.Add(-time.Hour), now.Add(2*time.Hour))
	write("web.pem", cert)
	write("web.key", key)
	if before.Equal(load()) {
		t.Error("a renewed certificate is no change")
	}
}
