package healthcheck

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// mailServer speaks just enough SMTP. replies replaces what it says to a
// command; commands notes what it heard.
type mailServer struct {
	cert     tls.Certificate
	replies  map[string]string
	commands chan string
}

func (s *mailServer) handle(c net.Conn) {
	if !s.say(c, "greeting", "220-mail.example.com\r\n220 ready\r\n") {
		return
	}
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.commands <- strings.TrimSpace(line)
		switch verb {
		case "EHLO":
			s.say(c, verb, "250-mail.example.com\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
		case "STARTTLS":
			if !s.say(c, verb, "220 go ahead\r\n") {
				return
			}
			secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{s.cert}})
			c, r = secure, bufio.NewReader(secure)
		case "QUIT":
			s.say(c, verb, "221 bye\r\n")
			return
		}
	}
}

// say reports false if the test wants the conversation to end here.
func (s *mailServer) say(c net.Conn, verb, usual string) bool {
	text, replaced := s.replies[verb]
	if !replaced {
		text = usual
	}
	_, _ = fmt.Fprint(c, text)
	if text == "" {
		drain(c)
	}
	return text != ""
}

func TestSMTP(t *testing.T) {
	ca := newAuthority(3650 * day)
	cert := ca.issue("mail.example.com", -day, 60*day)
	mail := func(verb, reply string) string {
		s := &mailServer{cert: cert, commands: make(chan string, 100), replies: map[string]string{verb: reply}}
		return labtest.Listen(t, s.handle)
	}
	good := mail("", "")
	implicit := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}},
		(&mailServer{commands: make(chan string, 100)}).handle)
	trust := ca.trust("mail.example.com")
	runCheckCases(t, []checkCase{
		{name: "good", checker: SMTP{Address: good}},
		{name: "STARTTLS", checker: SMTP{Address: good, StartTLS: true, TLS: trust}},
		{name: "STARTTLS, unknown authority", checker: SMTP{Address: good, StartTLS: true}, want: "certificate"},
		{name: "TLS from the start", checker: SMTP{Address: implicit, TLS: trust}},
		{name: "TLS with a server that does not", checker: SMTP{Address: good, TLS: trust}, want: "TLS handshake"},
		{name: "turned away", checker: SMTP{Address: mail("greeting", "554 no\r\n")}, want: `greeting: unexpected reply "554 no"`},
		{name: "no EHLO", checker: SMTP{Address: mail("EHLO", "502 what?\r\n")}, want: `EHLO: unexpected reply "502 what?"`},
		{name: "no STARTTLS", checker: SMTP{Address: mail("STARTTLS", "454 not now\r\n"), StartTLS: true, TLS: trust}, want: "454 not now"},
		{name: "clear text smuggled into TLS", checker: SMTP{Address: mail("STARTTLS", "220 go\r\n250 smuggled\r\n"), StartTLS: true, TLS: trust},
			want: "says more than it was asked"},
		{name: "does not say goodbye", checker: SMTP{Address: mail("QUIT", "500 never\r\n")}},
		{name: "closes in the middle of a reply", checker: SMTP{Address: labtest.Listen(t, saysAndCloses("220-half"))}, want: "greeting: closed without a complete reply"},
		{name: "codes that differ", checker: SMTP{Address: labtest.Listen(t, says(0, "220-one\r\n250 two\r\n"))}, want: `greeting: no SMTP: "250 two"`},
		{name: "bare code", checker: SMTP{Address: mail("EHLO", "250\r\n")}},
		{name: "slow", checker: SMTP{Address: labtest.Listen(t, func(c net.Conn) {
			pause(c, 300*time.Millisecond)
			(&mailServer{commands: make(chan string, 100)}).handle(c)
		})}},
		{name: "not SMTP", checker: SMTP{Address: labtest.Listen(t, says(0, "SSH-2.0-OpenSSH_9.2\r\n"))}, want: `greeting: no SMTP: "SSH-2.0-OpenSSH_9.2"`},
		{name: "endless line", checker: SMTP{Address: labtest.Listen(t, flood)}, want: "greeting: "},
		{name: "endless reply", checker: SMTP{Address: labtest.Listen(t, saysAndCloses(strings.Repeat("220-more\r\n", 20000)))}, want: "greeting: closed without a complete reply"},
		{name: "silent", checker: SMTP{Address: labtest.Listen(t, silent)}, patience: patience, is: isTimeout},
		{name: "silent after the greeting", checker: SMTP{Address: labtest.Listen(t, says(0, "220 hello\r\n"))}, patience: patience, is: isTimeout},
		{name: "half-open", checker: SMTP{Address: halfOpen(t)}, patience: patience, is: isTimeout},
		{name: "refused", checker: SMTP{Address: lab.FreeAddress(t)}, want: "connection refused"},
	})
	wantCancellable(t, SMTP{Address: halfOpen(t)})
	if (SMTP{Address: good, Hello: "a b\r\nMAIL FROM:<>"}).Validate() == nil {
		t.Error("a hello of several lines is accepted")
	}
}

// TestSMTPErrorNamesCommand: the error names the command that had no answer.
func TestSMTPErrorNamesCommand(t *testing.T) {
	for said, want := range map[string]string{"": "greeting: timed out", "220 hello\r\n": "EHLO: timed out", "220 hello\r\n250-x\r\n": "EHLO: timed out"} {
		if err := smtpTalk(saidOnly(said), exchange{"", "220"}, exchange{"EHLO us", "250"}); err == nil || err.Error() != want {
			t.Errorf("after %q: error is %v, want %s", said, err, want)
		}
	}
}

// TestSMTPGoodbye: a server that does not answer QUIT is healthy, and delays the check for
// a moment only.
func TestSMTPGoodbye(t *testing.T) {
	s := &mailServer{commands: make(chan string, 100), replies: map[string]string{"QUIT": ""}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	done := make(chan error, 1)
	c := SMTP{Address: labtest.Listen(t, s.handle)}
	go func() { done <- c.Check(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the check waits for an answer to QUIT")
	}
}

// TestSMTPCommands: the server hears what the protocol asks for and no more.
func TestSMTPCommands(t *testing.T) {
	s := &mailServer{commands: make(chan string, 100)}
	if err := (SMTP{Address: labtest.Listen(t, s.handle), Hello: "lb-01.example.com"}).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"EHLO lb-01.example.com", "QUIT"} {
		if got := <-s.commands; got != want {
			t.Errorf("server heard %q, want %q", got, want)
		}
	}
}

func FuzzSMTPReply(f *testing.F) {
	for _, seed := range []string{"220 ready\r\n", "250-a\r\n250-b\r\n250 c\r\n", "250\n", "250-a\r\n550 b\r\n", "99", "-10 \r\n", "25\xff x\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		code, last, err := readSMTPReply(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && (len(code) != 3 || !strings.HasPrefix(last, code) || !bytes.Contains(b, []byte(last))) {
			t.Errorf("%q gives code %s, line %q", b, code, last)
		}
	})
}
