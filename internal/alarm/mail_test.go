package alarm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// received is a message that the server of testdata/smtpd.py has taken.
type received struct {
	From string
	To   []string
	Text string
	TLS  bool
	User string
	Port int // in the first line
}

// startSMTP runs aiosmtpd on loopback until the test ends. words are those of the program.
func startSMTP(t *testing.T, words ...string) (address string, messages <-chan received) {
	t.Helper()
	lab.Need(t, "aiosmtpd")
	ctx, cancel := context.WithCancel(context.Background())
	// Debian's Python, which has the module.
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{"testdata/smtpd.py", "0"}, words...)...)
	said := &labtest.Log{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ch := make(chan received, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(ch)
		for s := bufio.NewScanner(out); s.Scan(); {
			var r received
			if err := json.Unmarshal(s.Bytes(), &r); err != nil {
				t.Errorf("%v: %s", err, s.Text())
				return
			}
			ch <- r
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		cmd.Wait()
		if t.Failed() {
			t.Logf("smtpd.py: %s", said)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", receive(t, ch).Port), ch
}

// receive waits for a message.
func receive(t *testing.T, messages <-chan received) received {
	t.Helper()
	select {
	case r, ok := <-messages:
		if !ok {
			t.Fatal("the server has ended")
		}
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("no message within 30 s")
	}
	return received{}
}

// nothing fails if a message has come.
func nothing(t *testing.T, messages <-chan received) {
	t.Helper()
	select {
	case r := <-messages:
		t.Errorf("received %+v", r)
	default:
	}
}

// certificateFiles writes a certificate of 127.0.0.1 and its key.
func certificateFiles(t *testing.T) (certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	c, k := labtest.PEM(labtest.Certificate(nil, nil, "127.0.0.1"))
	if err := errors.Join(os.WriteFile(certificate, c, 0o600), os.WriteFile(key, k, 0o600)); err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func mailTo(server string, encryption Encryption, to ...string) Config {
	return Config{Name: "mail", Email: Email{Server: server, From: "havip <havip@example.org>", To: to, TLS: encryption}}.WithDefaults()
}

// TestMail: a message says host, what, since when and why, and what belongs together
// stands in one thread.
func TestMail(t *testing.T) {
	server, messages := startSMTP(t)
	c := mailTo(server, NoTLS, "ops@example.org")
	first := notice(split(0), transition(time.Second, "Backup", "Active", "no advertisement\r\nin time ä"))
	if err := send(t.Context(), c, first, map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	got := receive(t, messages)
	m, err := mail.ReadMessage(strings.NewReader(got.Text))
	if err != nil {
		t.Fatalf("%v: %s", err, got.Text)
	}
	if got.From != "havip@example.org" || fmt.Sprint(got.To) != "[ops@example.org]" {
		t.Errorf("from %s to %v", got.From, got.To)
	}
	for key, want := range map[string]string{"Subject": "[havip] lb01: VI_1: split: another router is Active as well (192.0.2.2) (and 1 more)",
		"From": `"havip" <havip@example.org>`, "Auto-Submitted": "auto-generated", "Precedence": "bulk", "Date": "Fri, 02 Jan 2026 03:01:00 +0000"} {
		if s := m.Header.Get(key); s != want {
			t.Errorf("%s: %q, want %q", key, s, want)
		}
	}
	body, _ := io.ReadAll(m.Body)
	text := strings.ReplaceAll(strings.ReplaceAll(string(body), "=\r\n", ""), "=3D", "=")
	for _, want := range []string{"critical: VI_1: split: another router is Active as well (192.0.2.2)\r\n", "raised, since 2026-01-02 03:00:00 UTC, on lb01",
		"info: VI_1 is Active, was Backup: no advertisement  in time =C3=A4\r\n", "news, at 2026-01-02 03:00:01 UTC, on lb01"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// Another attempt is the same message; what follows is another one, of the same thread.
	second := notice(split(0), splitOver(time.Second))
	second.ID = "ops-2"
	for _, n := range []*Notice{first, second} {
		if err := send(t.Context(), c, n, map[string]bool{}); err != nil {
			t.Fatal(err)
		}
	}
	again, end := headerOf(t, receive(t, messages)), headerOf(t, receive(t, messages))
	if id := m.Header.Get("Message-ID"); id == "" || again.Get("Message-ID") != id || end.Get("Message-ID") == id {
		t.Errorf("IDs %s, %s, %s", id, again.Get("Message-ID"), end.Get("Message-ID"))
	}
	if thread := m.Header.Get("References"); thread == "" || end.Get("References") != thread || end.Get("In-Reply-To") != thread {
		t.Errorf("threads %s, %s, %s", thread, end.Get("References"), end.Get("In-Reply-To"))
	}
}

func headerOf(t *testing.T, r received) mail.Header {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(r.Text))
	if err != nil {
		t.Fatal(err)
	}
	return m.Header
}

// TestMailEncryption: STARTTLS and TLS with a password; the certificate is verified, and
// nothing goes over a connection that is not as configured.
func TestMailEncryption(t *testing.T) {
	certificate, key := certificateFiles(t)
	other, _ := certificateFiles(t)
	for _, kind := range []Encryption{StartTLS, TLS} {
		t.Run(kind.String(), func(t *testing.T) {
			server, messages := startSMTP(t, kind.String(), "auth", certificate, key)
			c := mailTo(server, kind, "ops@example.org")
			c.CA, c.Email.User, c.Email.Password = certificate, "havip", "s3cret"
			if err := send(t.Context(), c, notice(split(0)), map[string]bool{}); err != nil {
				t.Fatal(err)
			}
			if r := receive(t, messages); r.User != "havip" || r.TLS != (kind == StartTLS) { // of implicit TLS the server does not know
				t.Errorf("got %+v", r)
			}
			for name, edit := range map[string]func(*Config){
				"the certificate of another authority": func(c *Config) { c.CA = other },
				"no authority that the system knows":   func(c *Config) { c.CA = "" },
				"another name":                         func(c *Config) { c.Email.Server = strings.Replace(c.Email.Server, "127.0.0.1", "localhost", 1) },
			} {
				wrong := c
				edit(&wrong)
				err := send(t.Context(), wrong, notice(split(0)), map[string]bool{})
				if f, ok := errors.AsType[*failure](err); !ok || f.final || !strings.Contains(err.Error(), "certificate") {
					t.Errorf("%s: %v", name, err)
				}
			}
			wrong := c
			wrong.Email.Password = "wrong"
			err := send(t.Context(), wrong, notice(split(0)), map[string]bool{})
			if f, ok := errors.AsType[*failure](err); !ok || !f.final || strings.Contains(err.Error(), "wrong") {
				t.Errorf("a wrong password: %v", err)
			}
			nothing(t, messages)
		})
	}
	t.Run("a server without STARTTLS", func(t *testing.T) {
		server, messages := startSMTP(t)
		if err := send(t.Context(), mailTo(server, StartTLS, "ops@example.org"), notice(split(0)), map[string]bool{}); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
			t.Errorf("got %v", err)
		}
		nothing(t, messages)
	})
}

// TestMailRecipients: one who is refused keeps it from nobody, and whoever has it gets it
// no second time.
func TestMailRecipients(t *testing.T) {
	server, messages := startSMTP(t)
	for _, c := range []struct {
		bad   string
		final bool
	}{{"no-one@example.org", true}, {"later-on@example.org", false}} {
		cfg := mailTo(server, NoTLS, "a@example.org", c.bad, "b@example.org")
		done := map[string]bool{}
		for range 2 {
			err := send(t.Context(), cfg, notice(split(0)), done)
			if f, ok := errors.AsType[*failure](err); !ok || f.final != c.final || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("got %v, want final %v", err, c.final)
			}
		}
		a, b := receive(t, messages), receive(t, messages)
		if a.To[0] != "a@example.org" || b.To[0] != "b@example.org" {
			t.Errorf("received by %v and %v", a.To, b.To)
		}
		nothing(t, messages)
	}
}

// TestMailServerHangs: whenever a server falls silent, an attempt takes its timeout, and
// ends with its context.
func TestMailServerHangs(t *testing.T) {
	silent := labtest.Listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	slow, _ := startSMTP(t)
	for name, server := range map[string]string{"at once": silent, "in the middle": slow} {
		c := mailTo(server, NoTLS, "ops@example.org")
		c.Email.From, c.Timeout = "havip@slow", time.Second
		began := time.Now()
		err := send(t.Context(), c, notice(split(0)), map[string]bool{})
		if f, ok := errors.AsType[*failure](err); !ok || f.final {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		c.Timeout = time.Minute
		if err := send(ctx, c, notice(split(0)), map[string]bool{}); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
