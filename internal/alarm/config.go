package alarm

import (
	"cmp"
	"errors"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/internal/words"
)

// Config is one receiver of alarms: a webhook or a mailbox.
type Config struct {
	Name string
	// Webhook is the URL that gets a POST, of http or https. A user and a password in it
	// are sent. Empty: Email is used.
	Webhook string
	Format  Format // of the webhook's body
	Token   string // of the webhook, sent as Authorization: Bearer
	// Proxy is the URL of an HTTP proxy for the webhook. Empty: none, whatever the
	// environment says: a daemon's is nobody's choice.
	Proxy string
	Email Email
	// CA is the file of the authorities by which the server is judged. Empty: the
	// system's.
	CA string

	// On are the kinds of events that are told. Default: transition, split, pool and
	// certificate.
	On []string
	// Repeat is after how long an alarm that lasts is told again. Default 4 h; negative:
	// never.
	Repeat time.Duration
	// Timeout bounds each attempt to deliver. Default 10 s.
	Timeout time.Duration
	// GiveUp is the age at which what could not be delivered is given up. Default 1 h.
	GiveUp time.Duration
}

// Email is a mailbox, and the server that takes mail for it.
type Email struct {
	Server   string // host:port
	From     string
	To       []string
	User     string
	Password string
	TLS      Encryption
}

// Format is how a webhook is told.
type Format uint8

// The formats.
const (
	JSON         Format = iota // see Notice
	Slack                      // an incoming webhook of Slack, or of what imitates it
	Alertmanager               // the API of Prometheus' Alertmanager, version 2
)

var formats = []string{"json", "slack", "alertmanager"}

// String returns "json", "slack" or "alertmanager".
func (f Format) String() string { return words.Of(formats, f) }

// MarshalText implements encoding.TextMarshaler.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Format) UnmarshalText(text []byte) error { return words.Parse(formats, text, f) }

// Encryption is how a connection to a mail server is encrypted.
type Encryption uint8

// The kinds of Encryption. Where the server does not offer it nothing is sent.
const (
	StartTLS Encryption = iota // after a greeting in the clear
	TLS                        // from the first byte
	NoTLS
)

var encryptions = []string{"starttls", "tls", "none"}

// String returns "starttls", "tls" or "none".
func (e Encryption) String() string { return words.Of(encryptions, e) }

// MarshalText implements encoding.TextMarshaler.
func (e Encryption) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Encryption) UnmarshalText(text []byte) error { return words.Parse(encryptions, text, e) }

// Kinds are those of events that a receiver may ask for. Alarms that are not delivered are
// none of them: they would cause alarms.
var Kinds = []string{report.KindTransition, report.KindFault, report.KindAddresses, report.KindSplit, report.KindConflict, report.KindDiscard,
	report.KindCheck, report.KindBackend, report.KindPool, report.KindService, report.KindCertificate, report.KindReload, report.KindControl,
	report.KindDaemon, report.KindOther}

var defaultKinds = []string{report.KindTransition, report.KindSplit, report.KindPool, report.KindCertificate}

// WithDefaults returns c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	if len(c.On) == 0 {
		c.On = slices.Clone(defaultKinds)
	}
	c.Repeat = cmp.Or(c.Repeat, 4*time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.GiveUp = cmp.Or(c.GiveUp, time.Hour)
	return c
}

// Validate returns what is wrong with c.
func (c Config) Validate() error {
	c = c.WithDefaults()
	errs := []error{
		field.If(c.Repeat > 0 && c.Repeat < time.Minute || c.Repeat > 30*24*time.Hour, "Repeat", "%s: want 1m to 720h", field.Text(c.Repeat)),
		field.Between("Timeout", c.Timeout, 100*time.Millisecond, time.Minute),
		field.Between("GiveUp", c.GiveUp, time.Second, 24*time.Hour),
	}
	if c.Format > Alertmanager {
		errs = append(errs, field.Errorf("Format", "%d: want %s", c.Format, words.Choice(formats)))
	}
	for _, kind := range c.On {
		errs = append(errs, field.If(!slices.Contains(Kinds, kind), "On", "%q: want %s", kind, words.Choice(Kinds)))
	}
	if c.Webhook == "" {
		return errors.Join(append(errs, c.validateEmail())...)
	}
	return errors.Join(append(errs, c.validateWebhook())...)
}

func (c Config) validateWebhook() error {
	return errors.Join(
		// The value may be a secret: the error does not have it.
		field.If(!isWebURL(c.Webhook), "Webhook", "not a URL of the web: want https://host/path, or http"),
		field.If(c.Proxy != "" && !isWebURL(c.Proxy), "Proxy", "not a URL of the web: want http://host:port"),
		field.If(c.Email.Server != "", "Email", "a webhook and a mailbox: want one of the two"),
		field.If(strings.ContainsFunc(c.Token, notInHeader), "Token", "has control characters: want what a header can hold"),
	)
}

func (c Config) validateEmail() error {
	e := c.Email
	if e.Server == "" {
		return field.Errorf("Webhook", "neither a webhook nor a mailbox: want one of the two")
	}
	errs := []error{
		field.If(c.Format != JSON, "Format", "%v: want a webhook for that", c.Format),
		field.If(c.Token != "", "Token", "no webhook: want a user and a password of the mailbox"),
		field.If(c.Proxy != "", "Proxy", "no webhook: want none for e-mail"),
		field.If(!isHostPort(e.Server), "Email.Server", "%q: want host:port, such as smtp.example.org:587", e.Server),
		field.If(!isMailbox(e.From), "Email.From", "%q: want an address, such as havip@example.org", e.From),
		field.If(len(e.To) == 0, "Email.To", "nobody: want at least one address"),
		field.If(e.User == "" && e.Password != "", "Email.User", "there is a password: want its user"),
		field.If(e.User != "" && e.Password == "", "Email.Password", "there is a user: want the password"),
		field.If(e.TLS > NoTLS, "Email.TLS", "%d: want %s", e.TLS, words.Choice(encryptions)),
		// Whoever reads along has the password from then on.
		field.If(e.TLS == NoTLS && e.User != "", "Email.TLS", "%v: a password would be sent in the clear: want starttls or tls", e.TLS),
	}
	for i, to := range e.To {
		errs = append(errs, field.If(!isMailbox(to), "Email.To["+strconv.Itoa(i)+"]", "%q: want an address, such as ops@example.org", to))
	}
	return errors.Join(errs...)
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.Fragment == "" && !strings.ContainsFunc(s, notInHeader)
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && host != "" && bad == nil && n > 0
}

// isMailbox reports whether s is an address of mail, with a name before it or not.
func isMailbox(s string) bool {
	_, err := mail.ParseAddress(s)
	return err == nil && !strings.ContainsFunc(s, notInHeader)
}

// notInHeader reports whether a header cannot have r.
func notInHeader(r rune) bool { return r < ' ' || r == 0x7f }
