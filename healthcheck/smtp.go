package healthcheck

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// SMTP is a [Checker] that talks to a mail server (RFC 5321): it waits for the
// greeting, sends EHLO, starts TLS if asked to, and ends with QUIT, so that the server
// logs no error.
type SMTP struct {
	// Address is "host:port" or "[v6]:port". Required.
	Address string
	// Hello is the name given in EHLO. Default: the machine's.
	Hello string
	// StartTLS upgrades the connection (RFC 3207).
	StartTLS bool
	// TLS configures encryption, ServerName by default the host of Address.
	// Without StartTLS it encrypts from the start, as on port 465. Default: no
	// encryption, with StartTLS Go's defaults.
	TLS *tls.Config
}

// String names the check in errors and log lines.
func (c SMTP) String() string { return "smtp " + c.Address }

// WithDefaults returns c: the default of every field but Address is its zero.
func (c SMTP) WithDefaults() SMTP { return c }

// Validate reports an address that cannot be dialled and a bad Hello.
func (c SMTP) Validate() error {
	return errors.Join(validateAddress("Address", c.Address), optional(c.Hello, validateHostHeader("Hello", c.Hello)))
}

// Check talks to the server.
func (c SMTP) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c SMTP) probe(ctx context.Context) error {
	conn, release, err := dial(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	defer release()
	if c.TLS != nil && !c.StartTLS {
		if conn, err = handshake(ctx, conn, c.Address, c.TLS); err != nil {
			return err
		}
	}
	machine, _ := os.Hostname()
	hello := exchange{"EHLO " + cmp.Or(c.Hello, machine, "localhost"), "250"}
	if err := smtpTalk(conn, exchange{"", "220"}, hello); err != nil {
		return err
	}
	if c.StartTLS {
		if err := smtpTalk(conn, exchange{"STARTTLS", "220"}); err != nil {
			return err
		}
		if conn, err = handshake(ctx, conn, c.Address, c.TLS); err != nil {
			return err
		}
		if err := smtpTalk(conn, hello); err != nil {
			return err
		}
	}
	limitTime(ctx, conn, leaveGrace)
	_ = smtpTalk(conn, exchange{"QUIT", "221"})
	awaitClose(ctx, conn)
	return nil
}

// exchange is a command, empty for the greeting, and the reply's code.
type exchange struct {
	command, code string
}

// smtpTalk sends commands and checks the replies. A server that says more than it was
// asked is refused: what stayed in a buffer would be clear text that is taken for
// encrypted text after STARTTLS.
func smtpTalk(conn io.ReadWriter, exchanges ...exchange) error {
	r := bufio.NewReader(io.LimitReader(conn, maxReply))
	for _, e := range exchanges {
		what := "greeting"
		if e.command != "" {
			what, _, _ = strings.Cut(e.command, " ")
			if _, err := io.WriteString(conn, e.command+"\r\n"); err != nil {
				return err
			}
		}
		code, text, err := readSMTPReply(r)
		if err != nil {
			return fmt.Errorf("%s: %w", what, cause(err))
		}
		if code != e.code {
			return fmt.Errorf("%s: unexpected reply %s", what, excerpt([]byte(text)))
		}
	}
	if r.Buffered() > 0 {
		return errors.New("the server says more than it was asked")
	}
	return nil
}

// smtpReply is the form of a line: a code, and "-" if another line follows.
var smtpReply = regexp.MustCompile(`^([0-9]{3})($|[ -])`)

// readSMTPReply reads one reply of one or more lines (RFC 5321 §4.2.1) and returns its code
// and its last line. Package net/textproto would go on reading after a line that is not
// part of a reply.
func readSMTPReply(r *bufio.Reader) (code, last string, err error) {
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return "", "", errors.New("closed without a complete reply")
		}
		if err != nil {
			return "", "", err
		}
		line = strings.TrimRight(line, "\r\n")
		parts := smtpReply.FindStringSubmatch(line)
		if parts == nil || code != "" && parts[1] != code {
			return "", "", fmt.Errorf("no SMTP: %s", excerpt([]byte(line)))
		}
		if code = parts[1]; parts[2] != "-" {
			return code, line, nil
		}
	}
}
