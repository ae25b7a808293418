package alarm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// notice is one of what Book says of events.
func notice(events ...report.Event) *Notice {
	b := NewBook(everything)
	for _, e := range events {
		b.Take(e, e.Time)
	}
	return &Notice{Version: 1, ID: "ops-1", Host: "lb01", Time: at(time.Minute), Alarms: b.Due(at(time.Minute))}
}

// deliver posts a notice to a server that has a handler.
func deliver(t *testing.T, c Config, handler http.HandlerFunc) error {
	t.Helper()
	s := httptest.NewServer(handler)
	defer s.Close()
	c.Webhook = s.URL + c.Webhook
	return send(t.Context(), c.WithDefaults(), notice(split(0)), nil)
}

// TestAnswers: what a receiver answers decides whether it is asked again, and when.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name       string
		status     int
		retryAfter string
		failed     bool
		final      bool
		wait       time.Duration
	}{
		{name: "200", status: 200},
		{name: "202", status: 202},
		{name: "204", status: 204},
		{name: "400 is final", status: 400, failed: true, final: true},
		{name: "401 is final", status: 401, failed: true, final: true},
		{name: "404 is final", status: 404, failed: true, final: true},
		{name: "410 is final, whatever it asks for", status: 410, retryAfter: "5", failed: true, final: true},
		{name: "408 is tried again", status: 408, failed: true},
		{name: "429 is tried again when it asks for it", status: 429, retryAfter: "7", failed: true, wait: 7 * time.Second},
		{name: "500 is tried again", status: 500, failed: true},
		{name: "503 with an absurd wait", status: 503, retryAfter: "999999999", failed: true, wait: longestWait},
		{name: "503 with nonsense", status: 503, retryAfter: "-1 soon", failed: true},
		{name: "304 is final", status: 304, failed: true, final: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := deliver(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.WriteHeader(c.status)
			})
			if !c.failed {
				if err != nil {
					t.Errorf("failed: %v", err)
				}
				return
			}
			f, ok := errors.AsType[*failure](err)
			if !ok || f.final != c.final || f.wait != c.wait {
				t.Errorf("got %+v, want final %v, wait %v", err, c.final, c.wait)
			}
		})
	}
}

// TestRetryAfter: a date counts from now, up to a bound.
func TestRetryAfter(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "90": 90 * time.Second, "+1": 0, "1e3": 0, "18446744073709551617": 0, "601": longestWait,
		start.Add(time.Minute).Format(http.TimeFormat):       time.Minute,
		start.Add(-time.Minute).Format(http.TimeFormat):      0,
		start.Add(1000 * time.Hour).Format(http.TimeFormat):  longestWait,
		"Sunday, 06-Nov-94 08:49:37 GMT":                     0,
		start.Add(time.Minute).Format("2006-01-02T15:04:05"): 0,
	} {
		if got := retryAfter(s, start); got != want {
			t.Errorf("%q is %v, want %v", s, got, want)
		}
	}
}

// FuzzRetryAfter: whatever a receiver asks for is within the bounds.
func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 31 Dec 1999 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, start); d < 0 || d > longestWait {
			t.Errorf("%q is %v", s, d)
		}
	})
}

// TestJSON: the body is the notice, with its version and all of the events, and the
// request says what it is.
func TestJSON(t *testing.T) {
	var got map[string]any
	var header http.Header
	err := deliver(t, Config{Webhook: "/hook?x=1", Token: "s3cret"}, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		if r.Method != "POST" || r.URL.String() != "/hook?x=1" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if header.Get("Content-Type") != "application/json" || header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("header %v", header)
	}
	alarm := got["alarms"].([]any)[0].(map[string]any)
	ev := alarm["events"].([]any)[0].(map[string]any)
	for _, v := range [][2]any{
		{got["version"], 1.0}, {got["host"], "lb01"}, {got["id"], "ops-1"},
		{alarm["key"], "split VI_1"}, {alarm["state"], "raised"}, {alarm["severity"], "critical"}, {alarm["kind"], "split"},
		{alarm["since"], "2026-01-02T03:00:00Z"}, {alarm["changes"], 1.0}, {ev["router"], "VI_1"}, {ev["level"], "error"},
		{ev["attributes"].([]any)[0].(map[string]any)["value"], "192.0.2.2"},
	} {
		if v[0] != v[1] {
			t.Errorf("got %v, want %v in %v", v[0], v[1], got)
		}
	}
	if _, has := alarm["until"]; has {
		t.Error("it lasts, and has an end")
	}
}

// TestRedirects: on the same host they are followed; the alarm and its token go nowhere
// else.
func TestRedirects(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for _, c := range []struct {
		name, to string
		status   int
		ok       bool
	}{
		{"307 on the same host", "/new", 307, true},
		{"308 on the same host", "/new", 308, true},
		{"a status that makes a GET of it", "/new", 302, false},
		{"another host", other.URL + "/new", 307, false},
		{"a circle", "/hook", 307, false},
		{"another scheme", "https://127.0.0.1:1/", 308, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var body string
			err := deliver(t, Config{Webhook: "/hook", Token: "x"}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hook" {
					http.Redirect(w, r, c.to, c.status)
					return
				}
				b, _ := io.ReadAll(r.Body)
				body = string(b)
			})
			if f, _ := errors.AsType[*failure](err); c.ok != (err == nil) || f != nil && !f.final {
				t.Errorf("got %v", err)
			}
			if c.ok && !strings.Contains(body, `"split VI_1"`) {
				t.Errorf("got %q", body)
			}
		})
	}
	if elsewhere > 0 {
		t.Error("another host was asked")
	}
}

// TestErrorsHideTheURL: it is a secret, and errors go to the log.
func TestErrorsHideTheURL(t *testing.T) {
	for _, u := range []string{"http://user:pa55@127.0.0.1:1/pa55", "http://127.0.0.1:1/%zz-pa55", "http://pa55.invalid/pa55"} {
		c := Config{Name: "x", Webhook: u}.WithDefaults()
		err := send(t.Context(), c, notice(split(0)), nil)
		if err == nil || strings.Contains(strings.ReplaceAll(err.Error(), "pa55.invalid", ""), "pa55") {
			t.Errorf("%s: %v", u, err)
		}
		if err := c.Validate(); err != nil && strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// TestAnswersHideTheURL: what an answer repeats of the URL or the token does not come into
// the log.
func TestAnswersHideTheURL(t *testing.T) {
	c := Config{Webhook: "/services/T0123456/b%20SECRETPATH?key=q7&sig=SECRETQUERY", Token: "SECRETTOKEN"}
	err := deliver(t, c, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		io.WriteString(w, "Cannot POST "+r.RequestURI+", "+r.URL.Path+": "+r.URL.Query().Get("sig")+", "+r.Header.Get("Authorization"))
	})
	if err == nil || !strings.Contains(err.Error(), "answers 404") || !strings.Contains(err.Error(), "Cannot POST") {
		t.Fatalf("got %v", err)
	}
	for _, secret := range []string{"SECRET", "T0123456", "q7"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q has %s", err, secret)
		}
	}
}

// TestSlowSuccess: a receiver that has said yes and goes on talking delays nothing.
func TestSlowSuccess(t *testing.T) {
	began := time.Now()
	over := make(chan struct{})
	defer close(over)
	address := labtest.Listen(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Error(err)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
		<-over
	})
	if err := send(t.Context(), Config{Webhook: "http://" + address, Timeout: time.Minute}.WithDefaults(), notice(split(0)), nil); err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// TestLongAnswer: of an endless answer little is read, and less is said.
func TestLongAnswer(t *testing.T) {
	err := deliver(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		for range 10_000 {
			if _, err := io.WriteString(w, strings.Repeat("a\nb\x1b[", 1000)); err != nil {
				return
			}
		}
	})
	if err == nil || len(err.Error()) > 2*maxSaid || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("got %v", err)
	}
}

// TestHangingReceiver: it costs its timeout, and no more.
func TestHangingReceiver(t *testing.T) {
	address := labtest.Listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	began := time.Now()
	err := send(t.Context(), Config{Webhook: "http://" + address, Timeout: 100 * time.Millisecond}.WithDefaults(), notice(split(0)), nil)
	f, ok := errors.AsType[*failure](err)
	if !ok || f.final || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestTLS: the server's certificate is verified, by the authority that is configured, whose
// file may come later.
func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	try := func(ca string) error {
		return send(t.Context(), Config{Webhook: s.URL, CA: ca}.WithDefaults(), notice(split(0)), nil)
	}
	if err := try(""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("of an unknown authority: %v", err)
	}
	if err := try(ca); err == nil || !strings.Contains(err.Error(), "ca: ") {
		t.Errorf("without the file: %v", err)
	}
	certificate := s.TLS.Certificates[0]
	pem, _ := labtest.PEM(certificate)
	if err := os.WriteFile(ca, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := try(ca); err != nil {
		t.Errorf("with its authority: %v", err)
	}
}

// TestProxy: only the configured one is used, and not that of the environment.
func TestProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String() }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c := Config{Webhook: "http://receiver.invalid/hook"}.WithDefaults()
	if err := send(t.Context(), c, notice(split(0)), nil); err == nil || asked != "" {
		t.Errorf("by the environment's proxy: %v, asked for %q", err, asked)
	}
	c.Proxy = proxy.URL
	if err := send(t.Context(), c, notice(split(0)), nil); err != nil || asked != "http://receiver.invalid/hook" {
		t.Errorf("by the configured proxy: %v, asked for %q", err, asked)
	}
}
