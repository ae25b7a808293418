package healthcheck

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "all is well") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "sorry", http.StatusServiceUnavailable) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { sleep(r, 300*time.Millisecond) })
	mux.HandleFunc("/veryslow", func(w http.ResponseWriter, r *http.Request) { sleep(r, time.Minute) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := fmt.Fprintln(w, strings.Repeat("junk ", 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s %s %s/%s X=%s agent=%s", r.Method, r.Host, user, password, r.Header.Get("X-Probe"), r.UserAgent())
	})
	mux.HandleFunc("/torn", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "only this")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	raw := func(text string) string { return "http://" + labtest.Listen(t, saysAndCloses(text)) + "/" }
	body := regexp.MustCompile

	runCheckCases(t, []checkCase{
		{name: "good", checker: HTTP{URL: s.URL + "/ok"}},
		{name: "good body", checker: HTTP{URL: s.URL + "/ok", Body: body("^all is well")}},
		{name: "wrong body", checker: HTTP{URL: s.URL + "/ok", Body: body("ill")}, want: `body "all is well" does not match "ill"`},
		{name: "match beyond the bound is not seen", checker: HTTP{URL: s.URL + "/ok", Body: body("well"), MaxBody: 8}, want: "does not match"},
		{name: "wrong status", checker: HTTP{URL: s.URL + "/broken"}, want: `status "503 Service Unavailable"`},
		{name: "wrong status that is wanted", checker: HTTP{URL: s.URL + "/broken", Status: []StatusRange{{200, 200}, {500, 599}}}},
		{name: "not found", checker: HTTP{URL: s.URL + "/nosuch"}, want: "404"},
		{name: "redirect is not followed", checker: HTTP{URL: s.URL + "/moved"}},
		{name: "redirect is not wanted", checker: HTTP{URL: s.URL + "/moved", Status: []StatusRange{{200, 299}}}, want: "302"},
		{name: "method, host, header, user", checker: HTTP{
			URL:  strings.Replace(s.URL, "http://", "http://joe:secret@", 1) + "/echo",
			Host: "www.example.com", Method: "OPTIONS", Header: http.Header{"x-probe": {"7"}},
			Body: body("^OPTIONS www.example.com joe/secret X=7 agent=havip-healthcheck$"),
		}},
		{name: "HEAD", checker: HTTP{URL: s.URL + "/ok", Method: "HEAD"}},
		{name: "slow", checker: HTTP{URL: s.URL + "/slow"}},
		{name: "too slow", checker: HTTP{URL: s.URL + "/veryslow"}, patience: patience, is: isTimeout},
		{name: "oversized body", checker: HTTP{URL: s.URL + "/endless", Body: body("nothing like it")}, want: "does not match"},
		{name: "oversized body that is not looked at", checker: HTTP{URL: s.URL + "/endless"}},
		{name: "torn body", checker: HTTP{URL: s.URL + "/torn", Body: body("all is well")}, want: "unexpected EOF"},
		{name: "half-open", checker: HTTP{URL: "http://" + halfOpen(t)}, patience: patience, is: isTimeout},
		{name: "silent", checker: HTTP{URL: "http://" + labtest.Listen(t, silent)}, patience: patience, is: isTimeout},
		{name: "no SYN-ACK", checker: HTTP{URL: "http://" + blackHole(t)}, patience: patience, is: isTimeout},
		{name: "endless header", checker: HTTP{URL: "http://" + labtest.Listen(t, flood)}, want: "healthcheck: http http://127"},
		{name: "endless header line", checker: HTTP{URL: raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10))}, want: "response header exceeds 65536 bytes"},
		{name: "not HTTP", checker: HTTP{URL: raw("SSH-2.0-OpenSSH_9.2\r\n")}, want: "malformed HTTP"},
		{name: "speaks before it is asked", checker: HTTP{URL: "http://" + labtest.Listen(t, says(0, "220 mail ESMTP\r\n"))}, want: "malformed HTTP"},
		{name: "informational response first", checker: HTTP{URL: raw("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello"), Body: body("hello")}},
		{name: "endless informational responses", checker: HTTP{URL: raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 5000))}, want: "response header exceeds"},
		{name: "closes at once", checker: HTTP{URL: raw("")}, want: "closed without a response"},
		{name: "refused", checker: HTTP{URL: "http://" + lab.FreeAddress(t)}, want: "connection refused"},
		{name: "password stays secret", checker: HTTP{URL: "http://joe:secret@" + lab.FreeAddress(t)}, want: "http://joe:xxxxx@127.0.0.1"},
		{name: "query stays secret", checker: HTTP{URL: "http://" + lab.FreeAddress(t) + "/health?token=secret"}, want: "/health?...: "},
	})
	wantCancellable(t, HTTP{URL: "http://" + halfOpen(t)})
}

// sleep waits for d, or until the client has gone.
func sleep(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

func TestHTTPS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			sleep(r, 300*time.Millisecond)
		case "/silent":
			sleep(r, time.Minute)
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintln(w, strings.Repeat("junk ", 1000)); err != nil {
					return
				}
			}
		}
		fmt.Fprintf(w, "%s %s client=%d", r.Proto, r.TLS.ServerName, len(r.TLS.PeerCertificates))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	with := func(change func(*tls.Config), body string) HTTP {
		c := &tls.Config{RootCAs: roots, ServerName: "example.com"} // what httptest's certificate is for
		change(c)
		return HTTP{URL: s.URL, TLS: c, Body: regexp.MustCompile(body)}
	}
	h1 := func(path, body string) HTTP {
		c := with(func(*tls.Config) {}, body)
		c.URL += path
		return c
	}
	h2 := func(path, body string) HTTP {
		c := with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }, body)
		c.URL += path
		return c
	}
	over := func(protos []string, address string) HTTP {
		return HTTP{URL: "https://" + address, TLS: &tls.Config{InsecureSkipVerify: true, NextProtos: protos}}
	}
	onlyH1 := httptest.NewUnstartedServer(http.NotFoundHandler())
	onlyH1.Config.ErrorLog = s.Config.ErrorLog
	onlyH1.StartTLS()
	t.Cleanup(onlyH1.Close)
	// A server that knows nothing of ALPN, and then does not speak.
	mute := serveTLS(t, &tls.Config{Certificates: s.TLS.Certificates}, silent)
	muteH2 := serveTLS(t, &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}}, silent)
	floodH2 := serveTLS(t, &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}}, flood)
	notFound := []StatusRange{{404, 404}}
	either := over([]string{"h2", "http/1.1"}, address(onlyH1))
	either.Status = notFound
	runCheckCases(t, []checkCase{
		{name: "slow", checker: h1("/slow", "^HTTP/1.1 ")},
		{name: "silent after the request", checker: h1("/silent", ""), patience: patience, is: isTimeout},
		{name: "silent after the handshake", checker: over(nil, mute), patience: patience, is: isTimeout},
		{name: "wrong status", checker: h1("/broken", ""), want: "503"},
		{name: "oversized", checker: h1("/endless", "nothing like it"), want: "does not match"},
		{name: "half-open", checker: over(nil, halfOpen(t)), patience: patience, is: isTimeout},
		{name: "h2, slow", checker: h2("/slow", "^HTTP/2.0 ")},
		{name: "h2, wrong status", checker: h2("/broken", ""), want: "503"},
		{name: "h2, wrong body", checker: h2("/", "^HTTP/1.1 "), want: "does not match"},
		{name: "h2, oversized", checker: h2("/endless", "nothing like it"), want: "does not match"},
		{name: "h2, silent after the request", checker: h2("/silent", ""), patience: patience, is: isTimeout},
		{name: "h2, silent after the handshake", checker: over([]string{"h2"}, muteH2), patience: patience, is: isTimeout},
		{name: "h2, flood", checker: over([]string{"h2"}, floodH2), want: "healthcheck: http"},
		{name: "h2, silent", checker: over([]string{"h2"}, labtest.Listen(t, silent)), patience: patience, is: isTimeout},
		{name: "h2, half-open", checker: over([]string{"h2"}, halfOpen(t)), patience: patience, is: isTimeout},
		{name: "h2, server does not have it", checker: over([]string{"h2"}, address(onlyH1)), want: "healthcheck: http"},
		{name: "h2 or else http/1.1", checker: either},
		{name: "good", checker: with(func(*tls.Config) {}, "^HTTP/1.1 example.com client=0$")},
		{name: "client certificate", checker: with(func(c *tls.Config) { c.Certificates = s.TLS.Certificates }, "client=1$")},
		{name: "ALPN h2", checker: with(func(c *tls.Config) { c.NextProtos = []string{"h2"} }, "^HTTP/2.0 ")},
		{name: "ALPN http/1.1", checker: with(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "^HTTP/1.1 ")},
		{name: "wrong name", checker: with(func(c *tls.Config) { c.ServerName = "example.org" }, ""), want: "not example.org"},
		{name: "unknown CA", checker: HTTP{URL: s.URL}, want: "unknown authority"},
		{name: "CA not looked at", checker: HTTP{URL: s.URL, TLS: &tls.Config{InsecureSkipVerify: true}}},
		{name: "silent", checker: HTTP{URL: "https://" + labtest.Listen(t, silent)}, patience: patience, is: isTimeout},
		{name: "plain HTTP server", checker: HTTP{URL: "https://" + labtest.Listen(t, saysAndCloses("HTTP/1.0 400 Bad Request\r\n\r\n"))}, want: "does not look like a TLS handshake"},
	})
}

func TestHTTPValidate(t *testing.T) {
	tests := []struct {
		name string
		c    HTTP
	}{
		{"no URL", HTTP{}}, {"no scheme", HTTP{URL: "127.0.0.1:80"}}, {"no host", HTTP{URL: "http:///path"}},
		{"other scheme", HTTP{URL: "ftp://host/"}}, {"bad URL", HTTP{URL: "http://joe:secret@host:port/"}},
		{"bad query", HTTP{URL: "ftp://host/?token=secret"}},
		{"no slashes", HTTP{URL: "http:joe:secret@host/"}}, {"too many", HTTP{URL: "http:///joe:secret@host/"}}, {"user alone", HTTP{URL: "joe:secret@host/"}},
		{"bad method", HTTP{URL: "http://host/", Method: "GET IT"}},
		{"bad range", HTTP{URL: "http://host/", Status: []StatusRange{{300, 200}}}},
		{"bad bound", HTTP{URL: "http://host/", MaxBody: -1}},
	}
	for _, test := range tests {
		err := test.c.Validate()
		if err == nil {
			t.Errorf("%s: accepted", test.name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the password: %v", test.name, err)
		}
	}
}
