package healthcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// The tests of this file hold the checkers against real servers.

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// run starts a server that stays in the foreground and waits until the check
// ready succeeds. stop ends it.
func run(t *testing.T, ready Checker, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if path, err := exec.LookPath(name); err != nil { // a daemon outside of PATH
		cmd = exec.Command("/usr/sbin/"+name, args...)
	} else {
		cmd.Path = path
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, output.String())
		}
	})
	t.Cleanup(stop)
	waitFor(t, name, func() bool { return checkOnce(t, ready) == nil })
	return stop
}

// checkOnce makes one check with a generous timeout.
func checkOnce(t *testing.T, c Checker) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.Check(ctx)
}

// writeFiles writes files into a new directory.
func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pemOf returns a certificate and its key as PEM.
func pemOf(c tls.Certificate) (cert, key string) {
	certificate, private := labtest.PEM(c)
	return string(certificate), string(private)
}

func TestNginx(t *testing.T) {
	lab.Need(t, "nginx")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("www.example.com", -day, 30*day))
	plain, secure := lab.FreeAddress(t), lab.FreeAddress(t)
	dir := writeFiles(t, map[string]string{"cert.pem": cert, "key.pem": key})
	conf := `
user root root; daemon off; pid ` + dir + `/pid; error_log stderr; master_process off;
events {}
http {
  access_log off;
  client_body_temp_path ` + dir + `/1; proxy_temp_path ` + dir + `/2; fastcgi_temp_path ` + dir + `/3;
  uwsgi_temp_path ` + dir + `/4; scgi_temp_path ` + dir + `/5;
  server {
    listen ` + plain + `;
    listen ` + secure + ` ssl http2;
    server_name www.example.com;
    ssl_certificate ` + dir + `/cert.pem; ssl_certificate_key ` + dir + `/key.pem;
    location /ok { return 200 "all is well over $server_protocol\n"; }
    location /moved { return 301 /ok; }
    location /broken { return 503; }
  }
}`
	if err := os.WriteFile(dir+"/nginx.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	page := HTTP{URL: "http://" + plain + "/ok"}
	stop := run(t, page, "nginx", "-p", dir, "-c", dir+"/nginx.conf", "-e", "stderr")
	trust := ca.trust("www.example.com")
	h2 := trust.Clone()
	h2.NextProtos = []string{"h2"}
	runCheckCases(t, []checkCase{
		{name: "page", checker: HTTP{URL: "http://" + plain + "/ok", Body: regexp.MustCompile("over HTTP/1.1$|over HTTP/1.1\n")}},
		{name: "redirect", checker: HTTP{URL: "http://" + plain + "/moved", Status: []StatusRange{{301, 301}}}},
		{name: "broken", checker: HTTP{URL: "http://" + plain + "/broken"}, want: "503"},
		{name: "not found", checker: HTTP{URL: "http://" + plain + "/nosuch"}, want: "404"},
		{name: "HTTPS", checker: HTTP{URL: "https://" + secure + "/ok", TLS: trust, Body: regexp.MustCompile("over HTTP/1.1")}},
		{name: "HTTP/2", checker: HTTP{URL: "https://" + secure + "/ok", TLS: h2, Body: regexp.MustCompile("over HTTP/2.0")}},
		{name: "HTTPS, wrong name", checker: HTTP{URL: "https://" + secure + "/ok", TLS: ca.trust("example.org")}, want: "not example.org"},
		{name: "plain request to the HTTPS port", checker: HTTP{URL: "http://" + secure + "/ok"}, want: "400"},
		{name: "certificate", checker: TLS{Address: secure, Config: trust, MinValidity: 29 * day}},
		{name: "certificate, not long enough", checker: TLS{Address: secure, Config: trust, MinValidity: 31 * day}, want: "want at least 31.0"},
		{name: "TCP", checker: TCP{Address: plain, Send: []byte("HEAD /ok HTTP/1.0\r\n\r\n"), ExpectRegexp: regexp.MustCompile(`^HTTP/1\.1 200 OK\r\n`)}},
		{name: "by PID file", checker: Process{PIDFile: dir + "/pid", Name: "nginx"}},
	})
	stop()
	runCheckCases(t, []checkCase{
		{name: "page, stopped", checker: page, want: "connection refused"},
		{name: "by PID file, stopped", checker: Process{PIDFile: dir + "/pid", Name: "nginx"}, want: "does not run"},
	})
}

func TestOpenSSL(t *testing.T) {
	lab.Need(t, "openssl")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("db.example.com", -day, 20*day))
	dir := writeFiles(t, map[string]string{"cert.pem": cert, "key.pem": key})
	at := lab.FreeAddress(t)
	c := TLS{Address: at, Config: ca.trust("db.example.com")}
	run(t, c, "openssl", "s_server", "-accept", at, "-cert", dir+"/cert.pem", "-key", dir+"/key.pem", "-quiet")
	long, old := c, c
	long.MinValidity = 21 * day
	old.Config = c.Config.Clone()
	old.Config.MaxVersion = tls.VersionTLS12
	runCheckCases(t, []checkCase{
		{name: "TLS 1.3", checker: c},
		{name: "TLS 1.2", checker: old},
		{name: "not long enough", checker: long, want: "want at least 21.0"},
	})
}

func TestDnsmasq(t *testing.T) {
	lab.Need(t, "dnsmasq")
	at := lab.FreeAddress(t)
	c := DNS{Server: at, Name: "www.example.com", Expect: []string{"192.0.2.80"}}
	args := []string{"--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces",
		"--listen-address=127.0.0.1", "--port=" + port(at), "--pid-file=", "--local=/example.com/", "--log-facility=-",
		"--host-record=www.example.com,192.0.2.80,2001:db8::80", "--cname=web.example.com,www.example.com",
		"--mx-host=example.com,mail.example.com,10", "--srv-host=_sip._tcp.example.com,sip.example.com,5060"}
	for range 20 { // more than fits into 512 bytes
		args = append(args, "--txt-record=big.example.com,"+string(bytes.Repeat([]byte("x"), 100))+string(rune('a'+len(args)%26)))
	}
	stop := run(t, c, "dnsmasq", args...)
	ask := func(name, typ string, expect ...string) DNS {
		return DNS{Server: at, Name: name, Type: typ, Expect: expect}
	}
	// As an administrator would write it: www.example.com, A, IN.
	datagram := UDP{Address: at, Send: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01"),
		Expect: []byte{192, 0, 2, 80}, ExpectRegexp: regexp.MustCompile(`(?s)^\x124`)}
	another := datagram
	another.Expect = []byte{192, 0, 2, 81}
	runCheckCases(t, []checkCase{
		{name: "A", checker: c},
		{name: "A by way of CNAME", checker: ask("web.example.com", "A", "192.0.2.80")},
		{name: "AAAA", checker: ask("www.example.com", "AAAA", "2001:db8::80")},
		{name: "MX", checker: ask("example.com", "MX", "mail.example.com")},
		{name: "SRV", checker: ask("_sip._tcp.example.com", "SRV", "sip.example.com")},
		{name: "TXT, by TCP since it does not fit", checker: ask("big.example.com", "TXT")},
		{name: "by TCP", checker: DNS{Server: at, Name: "www.example.com", TCP: true}},
		{name: "another address", checker: ask("www.example.com", "A", "192.0.2.81"), want: `want "192.0.2.81" among them`},
		{name: "no such name", checker: ask("nosuch.example.com", "A"), want: "server says NameError"},
		{name: "not ours", checker: ask("example.org", "A"), want: "server says Refused"},
		{name: "UDP", checker: datagram},
		{name: "UDP, wrong reply", checker: another, want: "unexpected reply"},
		{name: "UDP, no reply to junk", checker: UDP{Address: at, Send: []byte("junk")}, patience: patience, is: isTimeout},
	})
	stop()
	runCheckCases(t, []checkCase{
		{name: "UDP, stopped", checker: datagram, want: "connection refused"},
		{name: "stopped", checker: c, want: "connection refused"},
	})
}

func TestEtcd(t *testing.T) {
	lab.Need(t, "etcd")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("etcd.example.com", -day, 20*day))
	dir := writeFiles(t, map[string]string{"cert.pem": cert, "key.pem": key})
	plain, secure, peer := lab.FreeAddress(t), lab.FreeAddress(t), lab.FreeAddress(t)
	c := GRPC{Address: plain}
	stop := run(t, c, "etcd", "--data-dir", dir+"/data", "--listen-client-urls", "http://"+plain+",https://"+secure,
		"--advertise-client-urls", "http://"+plain, "--listen-peer-urls", "http://"+peer,
		"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer,
		"--cert-file", dir+"/cert.pem", "--key-file", dir+"/key.pem")
	runCheckCases(t, []checkCase{
		{name: "server as a whole", checker: c},
		{name: "with TLS", checker: GRPC{Address: secure, TLS: ca.trust("etcd.example.com")}},
		{name: "unknown service", checker: GRPC{Address: plain, Service: "nosuch"}, want: `gRPC status "5": "unknown service"`},
	})
	stop()
	runCheckCases(t, []checkCase{{name: "stopped", checker: c, want: "connection refused"}})
}

func TestMailServer(t *testing.T) {
	lab.Need(t, "aiosmtpd")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("mail.example.com", -day, 20*day))
	dir := writeFiles(t, map[string]string{"cert.pem": cert, "key.pem": key})
	at := lab.FreeAddress(t)
	c := SMTP{Address: at}
	run(t, c, "aiosmtpd", "--nosetuid", "--listen", at, "--tlscert", dir+"/cert.pem", "--tlskey", dir+"/key.pem", "--no-requiretls")
	runCheckCases(t, []checkCase{
		{name: "clear text", checker: c},
		{name: "STARTTLS", checker: SMTP{Address: at, StartTLS: true, TLS: ca.trust("mail.example.com")}},
		{name: "STARTTLS, wrong name", checker: SMTP{Address: at, StartTLS: true, TLS: ca.trust("example.org")}, want: "not example.org"},
		{name: "TCP", checker: TCP{Address: at, ExpectRegexp: regexp.MustCompile(`^220 `)}},
	})
}

// TestProxiedWithPeers: nginx and HAProxy take the header where we put it, also in front of TLS,
// and nothing else.
func TestProxiedWithPeers(t *testing.T) {
	lab.Need(t, "nginx", "haproxy")
	ca := newAuthority(365 * day)
	cert, key := pemOf(ca.issue("www.example.com", -day, 30*day))
	dir := writeFiles(t, map[string]string{"cert.pem": cert, "key.pem": key, "both.pem": cert + key})
	plain, clear, secure, edge := lab.FreeAddress(t), lab.FreeAddress(t), lab.FreeAddress(t), lab.FreeAddress(t)
	for name, text := range map[string]string{"nginx.conf": `
user root root; daemon off; pid ` + dir + `/pid; error_log stderr; master_process off;
events {}
http {
  access_log off;
  client_body_temp_path ` + dir + `/1; proxy_temp_path ` + dir + `/2; fastcgi_temp_path ` + dir + `/3;
  uwsgi_temp_path ` + dir + `/4; scgi_temp_path ` + dir + `/5;
  server {
    listen ` + plain + `; listen ` + clear + ` proxy_protocol; listen ` + secure + ` ssl proxy_protocol;
    ssl_certificate ` + dir + `/cert.pem; ssl_certificate_key ` + dir + `/key.pem;
    location / { return 200 "well\n"; }
  }
}`, "haproxy.cfg": `
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen l
  bind ` + edge + ` accept-proxy ssl crt ` + dir + `/both.pem
  server nginx ` + plain + "\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, HTTP{URL: "http://" + plain}, "nginx", "-p", dir, "-c", dir+"/nginx.conf", "-e", "stderr")
	run(t, TCP{Address: edge}, "haproxy", "-db", "-f", dir+"/haproxy.cfg")
	trust := ca.trust("www.example.com")
	for version := 1; version <= 2; version++ {
		as := func(c Checker) Checker { return Proxied{Checker: c, Version: version} }
		runCheckCases(t, []checkCase{
			{name: "nginx", checker: as(HTTP{URL: "http://" + clear})},
			{name: "nginx with TLS", checker: as(HTTP{URL: "https://" + secure, TLS: trust})},
			{name: "nginx, the certificate", checker: as(TLS{Address: secure, Config: trust})},
			{name: "haproxy", checker: as(HTTP{URL: "https://" + edge, TLS: trust})},
			{name: "haproxy, the certificate", checker: as(TLS{Address: edge, Config: trust})},
			{name: "nginx without the header", checker: HTTP{URL: "https://" + secure, TLS: trust}, want: "healthcheck: http"},
			{name: "haproxy without the header", checker: TLS{Address: edge, Config: trust}, want: "healthcheck: tls"},
		})
	}
}
