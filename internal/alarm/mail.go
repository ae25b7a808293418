package alarm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// mailAuth are the ways to show the password, the best first; the last two show it as it
// is, under TLS only.
var mailAuth = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5, mail.SMTPAuthPlain, mail.SMTPAuthLogin}

// submit sends a notice by mail. Every recipient gets a message of its own, so that one
// whom the server refuses keeps it from no other. done are those who have it already.
func submit(ctx context.Context, c Config, n *Notice, done map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var messages []*mail.Msg
	var to []string
	for _, recipient := range c.Email.To {
		if done[recipient] {
			continue
		}
		m, err := message(c, n, recipient)
		if err != nil {
			return &failure{err: err, final: true}
		}
		messages, to = append(messages, m), append(to, recipient)
	}
	client, err := c.mailClient(ctx)
	if err != nil {
		return &failure{err: err}
	}
	err = client.DialAndSendWithContext(ctx, messages...)
	var errs []error
	final := true
	for i, m := range messages {
		if m.IsDelivered() { // whatever came after that
			done[to[i]] = true
			continue
		}
		why := err
		if own := m.SendError(); own != nil {
			why = own
		}
		final = final && refused(why)
		errs = append(errs, fmt.Errorf("%s: %w", to[i], why))
	}
	if len(errs) == 0 {
		return nil
	}
	if len(errs) > 1 && len(done) == 0 && err != nil {
		errs = []error{err} // the same for all, most likely
	}
	return &failure{err: errors.Join(errs...), final: final}
}

// refused reports whether the server has said a definite no (RFC 5321 §4.2.1).
func refused(err error) bool {
	if s, ok := errors.AsType[*mail.SendError](err); ok {
		return s.ErrorCode() >= 500
	}
	if s, ok := errors.AsType[*textproto.Error](err); ok {
		return s.Code >= 500
	}
	return false
}

// mailClient makes connections that ctx ends, whatever the server does not say.
func (c Config) mailClient(ctx context.Context) (*mail.Client, error) {
	host, text, err := net.SplitHostPort(c.Email.Server)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	encryption, err := c.tls(host)
	if err != nil {
		return nil, err
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(c.Timeout), mail.WithTLSConfig(encryption)}
	switch c.Email.TLS {
	case StartTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case TLS:
		options = append(options, mail.WithSSL())
	case NoTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	options = append(options, mail.WithDialContextFunc(c.dial(ctx, encryption)))
	if c.Email.User != "" {
		options = append(options, mail.WithUsername(c.Email.User), mail.WithPassword(c.Email.Password), mail.WithOpportunisticSMTPAuth(mailAuth...))
	}
	return mail.NewClient(host, options...)
}

// dial returns what makes connections that are closed when ctx ends: the library asks it
// only while it connects.
func (c Config) dial(ctx context.Context, encryption *tls.Config) mail.DialContextFunc {
	return func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(dialing, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		if c.Email.TLS != TLS {
			return conn, nil
		}
		secure := tls.Client(conn, encryption)
		if err := secure.HandshakeContext(dialing); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
}

// message makes the mail to one recipient.
func message(c Config, n *Notice, to string) (*mail.Msg, error) {
	m := mail.NewMsg()
	if err := errors.Join(m.From(c.Email.From), m.To(to)); err != nil {
		return nil, err
	}
	m.Subject(cut("[havip] "+n.title(), maxSummary))
	m.SetDateWithValue(n.Time)
	// The same at each attempt: who gets it twice sees it once.
	m.SetMessageIDWithValue(messageID(n.ID, to, c))
	// What is said of one thing stands together. No message has this ID.
	thread := "<" + messageID("thread", n.Host, n.worst().Key, c) + ">"
	m.SetGenHeader(mail.HeaderInReplyTo, thread)
	m.SetGenHeader(mail.HeaderReferences, thread)
	// No holiday answers (RFC 3834 §5).
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBulk()
	m.SetUserAgent("havip")
	m.SetBodyString(mail.TypeTextPlain, mailText(n))
	return m, nil
}

// messageID is an ID made of words, at the sender's domain.
func messageID(parts ...any) string {
	c := parts[len(parts)-1].(Config)
	sum := sha256.Sum256([]byte(fmt.Sprint(parts[:len(parts)-1]...)))
	domain := c.Email.From[strings.LastIndexByte(c.Email.From, '@')+1:]
	return hex.EncodeToString(sum[:16]) + "@" + strings.Trim(domain, "<> ")
}

// mailText says host, what, since when and why.
func mailText(n *Notice) string {
	var b strings.Builder
	for i := range n.Alarms {
		a := &n.Alarms[i]
		fmt.Fprintf(&b, "%s: %s\n  %s, %s, on %s\n", a.Severity, a.headline(), a.State, a.timing(), n.Host)
		for _, l := range a.details() {
			fmt.Fprintf(&b, "  %s\n", l)
		}
		b.WriteByte('\n')
	}
	if n.Lost > 0 {
		fmt.Fprintf(&b, "%d alarms or events before these could not be told.\n\n", n.Lost)
	}
	b.WriteString("havip events shows what happened on the host, havip explain why it has an address or not.\n")
	return b.String()
}
