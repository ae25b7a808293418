package alarm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/havip/havip/internal/report"
)

// TestRulesNameMessages: each rule is of a message that something logs. Whoever changes a
// message finds the rule here.
func TestRulesNameMessages(t *testing.T) {
	literals := map[string]bool{"check is down": true, "check is up": true} // "check is " and the state
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "internal/alarm") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				s, _ := strconv.Unquote(lit.Value)
				literals[s] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := map[string]bool{}
	for _, r := range rules {
		if !literals[r.message] {
			t.Errorf("nothing logs %q", r.message)
		}
		if r.verdict == ends {
			ended[r.about] = true
		}
	}
	for _, r := range rules {
		// A transition ends a fault.
		if r.verdict == begins && !ended[r.about] && r.fades == 0 && r.about != report.KindFault {
			t.Errorf("what %q begins never ends", r.message)
		}
	}
}

// TestSummaries: about what, what, and why, in one line.
func TestSummaries(t *testing.T) {
	long := strings.Repeat("x", 2*maxSummary)
	for _, c := range []struct {
		e         report.Event
		key, want string
	}{
		{transition(0, "Backup", "Active", "no advertisement in time"), "transition VI_1", "VI_1 is Active, was Backup: no advertisement in time"},
		{event(0, "warn", "transition", "state", "VI_1", "from", "Active", "to", "Initialize", "cause", "fault", "reason", "check balancer: down"),
			"transition VI_1", "VI_1 is Initialize, was Active: fault, reason check balancer: down"},
		{event(0, "info", "transition", "state", "VI_1", "from", "Backup", "to", "Active", "cause", "active router left", "peer", "192.0.2.2"),
			"transition VI_1", "VI_1 is Active, was Backup: active router left, peer 192.0.2.2"},
		{noBackends(0), "pool web", "web: pool has no working backends"},
		{event(0, "error", "pool", "pool has no working backends", "", "pool", "web/mail", "service", "web"), "pool web/mail", "web/mail: pool has no working backends"},
		{event(0, "error", "service", "service does not run", "", "service", "web", "cause", "address in use"), "service web", "web: service does not run: address in use"},
		{event(0, "error", "reload", "reload", "", "cause", "havip.yaml:3:1: no"), "reload", "reload: havip.yaml:3:1: no"},
		{event(0, "error", "daemon", "a part of the daemon has ended", "", "cause", "boom"), "daemon a part of the daemon has ended", "a part of the daemon has ended: boom"},
		{event(0, "info", "control", "steered", "", "what", "maintenance on", "cause", "new disks", "by", "root"),
			"control steered maintenance on", "steered: maintenance on: new disks, by root"},
		{event(0, "warn", "other", "x\ny\x1b[31m", "VI_1", "cause", long), "other VI_1 x\ny\x1b[31m", ("VI_1: x y [31m: " + long)[:maxSummary-3] + "..."},
	} {
		got := judge(c.e)[0]
		if got.key != c.key || got.summary != c.want {
			t.Errorf("got %q: %q, want %q: %q", got.key, got.summary, c.key, c.want)
		}
	}
	backend := event(0, "warn", "backend", "backend is down", "", "service", "web")
	backend.Backend = "app1"
	if got := judge(backend)[0]; got.key != "backend web/app1" || got.verdict != begins {
		t.Errorf("got %+v", got)
	}
}

// TestConfig: what a receiver needs, and what it cannot have.
func TestConfig(t *testing.T) {
	hook := func(edit func(*Config)) Config {
		c := Config{Name: "ops", Webhook: "https://hooks.example.org/x?y=z"}
		edit(&c)
		return c
	}
	mailbox := func(edit func(*Config)) Config {
		c := Config{Name: "mail", Email: Email{Server: "smtp.example.org:587", From: "havip@example.org", To: []string{"ops@example.org"}}}
		edit(&c)
		return c
	}
	for _, c := range []struct {
		name string
		c    Config
		want string // the field; empty: valid
	}{
		{"a webhook", hook(func(*Config) {}), ""},
		{"with everything", hook(func(c *Config) {
			c.Format, c.Token, c.Proxy, c.CA, c.On, c.Repeat = Alertmanager, "t", "http://proxy:3128", "/ca.pem", Kinds, -1
		}), ""},
		{"an IPv6 address", hook(func(c *Config) { c.Webhook = "http://[2001:db8::1]:9093" }), ""},
		{"neither", Config{Name: "x"}, "Webhook"},
		{"both", hook(func(c *Config) { c.Email.Server = "smtp.example.org:587" }), "Email"},
		{"not of the web", hook(func(c *Config) { c.Webhook = "ftp://x/" }), "Webhook"},
		{"without a host", hook(func(c *Config) { c.Webhook = "https:///x" }), "Webhook"},
		{"an unknown kind", hook(func(c *Config) { c.On = []string{"split", "weather"} }), "On"},
		{"alarms about alarms", hook(func(c *Config) { c.On = []string{report.KindAlarm} }), "On"},
		{"repeated too often", hook(func(c *Config) { c.Repeat = 1 }), "Repeat"},
		{"no time", hook(func(c *Config) { c.Timeout = 1 }), "Timeout"},
		{"never given up", hook(func(c *Config) { c.GiveUp = 1000 * 3600e9 }), "GiveUp"},
		{"an unknown format", hook(func(c *Config) { c.Format = 9 }), "Format"},
		{"a token of two lines", hook(func(c *Config) { c.Token = "a\nb" }), "Token"},
		{"a proxy of no web", hook(func(c *Config) { c.Proxy = "proxy:3128" }), "Proxy"},
		{"a mailbox", mailbox(func(*Config) {}), ""},
		{"with a password", mailbox(func(c *Config) { c.Email.User, c.Email.Password = "u", "p" }), ""},
		{"a password in the clear", mailbox(func(c *Config) { c.Email.User, c.Email.Password, c.Email.TLS = "u", "p", NoTLS }), "Email.TLS"},
		{"without encryption", mailbox(func(c *Config) { c.Email.TLS = NoTLS }), ""},
		{"a password without a user", mailbox(func(c *Config) { c.Email.Password = "p" }), "Email.User"},
		{"a user without a password", mailbox(func(c *Config) { c.Email.User = "u" }), "Email.Password"},
		{"a server without a port", mailbox(func(c *Config) { c.Email.Server = "smtp.example.org" }), "Email.Server"},
		{"a sender that is none", mailbox(func(c *Config) { c.Email.From = "havip" }), "Email.From"},
		{"nobody", mailbox(func(c *Config) { c.Email.To = nil }), "Email.To"},
		{"a line end in a recipient", mailbox(func(c *Config) { c.Email.To = []string{"a@b", "x@y\r\nBcc: z@z"} }), "Email.To[1]"},
		{"a format of mail", mailbox(func(c *Config) { c.Format = Slack }), "Format"},
		{"a token of mail", mailbox(func(c *Config) { c.Token = "x" }), "Token"},
	} {
		err := c.c.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want+": ")) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	got := Config{}.WithDefaults()
	if want := (Config{On: []string{"transition", "split", "pool", "certificate"}, Repeat: 4 * 3600e9, Timeout: 10e9, GiveUp: 3600e9}); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults %+v", got)
	}
	if !slices.Contains(Kinds, report.KindOther) || slices.Contains(Kinds, report.KindAlarm) {
		t.Error(fmt.Sprint(Kinds))
	}
}
