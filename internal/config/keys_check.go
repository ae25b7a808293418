package config

import (
	"crypto/tls"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb"
)

// checkTypes are the checkers of package healthcheck: a new one needs an entry here.
func checkTypes() []variant[Check] {
	return []variant[Check]{
		checker("tcp", "up when a connection is accepted, and what is expected comes back", "address", func(_ *Check, t *healthcheck.TCP) []key {
			return append([]key{connectTo(&t.Address)}, talk(&t.Send, &t.Expect, &t.ExpectRegexp)...)
		}),
		checker("http", "up when a request is answered with a good status; redirects are not followed", "url", func(c *Check, h *healthcheck.HTTP) []key {
			return []key{
				optional("url", webAddress(&h.URL), "http://127.0.0.1:8080/health", "what to ask for; leave it out in a check of backends").secret(),
				preset("path", webPath(&c.Path), "/", "what to ask backends for, in place of url").secret(),
				setting("method", plain(&h.Method), "of the request"),
				optional("host", plain(&h.Host), "www.example.org", "Host header; default: the address that is asked"),
				optional("headers", httpHeader(&h.Header), "{Accept: text/plain}", "of the request").secret(),
				setting("status", statuses(&h.Status), "good statuses: one, a range or a list"),
				optional("body", expression(&h.Body), "healthy", "regular expression that the body must match; default: not read"),
				setting("max_body", integer(&h.MaxBody), "bytes of the body that are looked at"),
				c.tlsKey(&h.TLS),
			}
		}),
		checker("grpc", "up when grpc.health.v1 says SERVING", "address", func(c *Check, g *healthcheck.GRPC) []key {
			return []key{
				connectTo(&g.Address),
				optional("service", plain(&g.Service), "echo.Echo", "default: the server as a whole"),
				optional("authority", plain(&g.Authority), "www.example.org", "default: the address"),
				c.tlsKey(&g.TLS),
			}
		}),
		checker("dns", "up when a name server has the answers", "address", func(_ *Check, n *healthcheck.DNS) []key {
			return []key{
				connectTo(&n.Server),
				required("query", plain(&n.Name), "www.example.org", "the name to look up"),
				setting("record", word(&n.Type, recordTypes...), "its type"),
				optional("answers", list(&n.Expect, plain), "[192.0.2.1]", "those that must be there; default: any"),
				setting("over_tcp", boolean(&n.TCP), "ask by TCP at once"),
			}
		}),
		checker("icmp", "up when an echo request is answered", "target", func(_ *Check, i *healthcheck.ICMP) []key {
			return []key{optional("target", plain(&i.Address), "192.168.31.1", "address or host; leave it out in a check of backends")}
		}),
		checker("udp", "up when a datagram is answered, or at least not refused", "address", func(_ *Check, u *healthcheck.UDP) []key {
			silence := setting("allow_silence", boolean(&u.AllowSilence), "no reply is a good one, as of a log server")
			return append(append([]key{connectTo(&u.Address)}, talk(&u.Send, &u.Expect, &u.ExpectRegexp)...), silence)
		}),
		checker("smtp", "up when a mail server greets", "address", func(c *Check, s *healthcheck.SMTP) []key {
			return []key{
				connectTo(&s.Address),
				optional("hello", plain(&s.Hello), "lb01.example.org", "name given in EHLO; default: the machine's"),
				setting("starttls", boolean(&s.StartTLS), "encrypt after the greeting"),
				c.tlsKey(&s.TLS),
			}
		}),
		checker("tls", "up when the certificate is valid for long enough", "address", func(c *Check, t *healthcheck.TLS) []key {
			return []key{
				connectTo(&t.Address),
				setting("min_validity", duration(&t.MinValidity), "for how long the certificate must still be valid; 336h are 14 days"),
				c.tlsKey(&t.Config),
			}
		}),
		checker("exec", "up when a program exits with 0", "", func(_ *Check, e *healthcheck.Exec) []key {
			return []key{
				required("command", program(e), "[/usr/bin/pgrep, nginx]", "program and arguments; no shell; root runs only what nobody else can change"),
				optional("user", plain(&e.User), "nobody", "who it runs as; default: the user of havip"),
				optional("environment", environment(&e.Env), "{LANG: C}", "beyond PATH; nothing is inherited").secret(),
				setting("directory", plain(&e.Dir), "where it runs"),
			}
		}),
		checker("file", "up while a file is there, or not there; noticed at once", "", func(_ *Check, f *healthcheck.File) []key {
			return []key{
				required("file", absolutePath(&f.Path), "/run/havip/maintenance", "the file to look at"),
				setting("absent", boolean(&f.Absent), "up while there is no such file"),
				setting("max_age", duration(&f.MaxAge), "since it was modified; 0s: any"),
				optional("content", expression(&f.Content), "^ok",
					"regular expression that it must match, and then fall is 2 by default: a file is not written at once; default: not read"),
			}
		}),
		checker("process", "up while a process runs; its end is noticed at once", "", func(_ *Check, p *healthcheck.Process) []key {
			return []key{
				required("process", plain(&p.Name), "nginx", "its name"),
				optional("pid_file", absolutePath(&p.PIDFile), "/run/nginx.pid", "file with its number; default: any process of that name"),
				setting("min_processes", integer(&p.Min), "how many of that name must run"),
			}
		}),
		checker("interface", "up while an interface is up and has a carrier; noticed at once", "", func(_ *Check, i *healthcheck.Interface) []key {
			return []key{required("interface", plain(&i.Name), "eth0", "network interface")}
		}),
		checker("gateway", "up when a neighbour answers ARP or neighbour discovery", "", func(_ *Check, g *healthcheck.Gateway) []key {
			return []key{
				required("interface", plain(&g.Interface), "eth0", "network interface"),
				required("gateway", address(&g.Address), "192.168.31.1", "the neighbour's address"),
			}
		}),
	}
}

// checker is the entry of a checker T, which its rows make and point into. target is
// the variant's.
func checker[T interface {
	healthcheck.Checker
	Validate() error
	WithDefaults() T
}](name, doc, target string, rows func(*Check, *T) []key) variant[Check] {
	return variant[Check]{name: name, doc: doc, target: target, keys: func(c *Check) []key {
		k := new(T)
		c.Checker = any(k).(healthcheck.Checker) // a pointer has the methods of its value
		keys := append(c.keys(), owned(rows(c, k), homeOf(k))...)
		return slices.DeleteFunc(keys, func(k key) bool { return c.ofBackends && k.name == target })
	}}
}

// talk are the rows of what is said to a server, and what it must reply.
func talk(send, expect *[]byte, match **regexp.Regexp) []key {
	return []key{
		optional("send", octets(send), "PING", "what is sent first; hex: and digits for any bytes").secret(),
		optional("expect", octets(expect), "PONG", "what must be in the reply; hex: and digits for any bytes"),
		optional("expect_regexp", expression(match), "^220", "what the reply must match"),
	}
}

var recordTypes = alternatives(field.All(healthcheck.DNS{Server: "192.0.2.1:53", Name: "x", Type: "?"}.Validate())[0].Err)

// connectTo is the row of what most types of checks connect to.
func connectTo(to *string) key {
	return optional("address", plain(to), "127.0.0.1:8080", "where to connect; a name is up while one of its addresses is; leave it out in a check of backends, each of which is probed at its own")
}

// maxDefaultSpread bounds the time in which checks of backends begin: until then a
// backend is taken for alive.
const maxDefaultSpread = time.Second

// targetOf is what is asked of a backend at an address.
func (c *Check) targetOf(backend string) string {
	switch c.Checker.(type) {
	case *healthcheck.HTTP:
		u := url.URL{Scheme: "http", Host: backend}
		if c.TLS != nil {
			u.Scheme = "https"
		}
		return u.String() + c.Path
	case *healthcheck.ICMP:
		if host, _, err := net.SplitHostPort(backend); err == nil {
			return host
		}
	}
	return backend
}

// keys are those of every check.
func (c *Check) keys() []key {
	fall := setting("fall", integer(&c.Fall), "failures in a row that make it down: the second is asked for after the fast interval")
	switch c.Checker.(type) {
	case *healthcheck.File, *healthcheck.Process, *healthcheck.Interface:
		// Nothing that comes and goes by chance, and the end is noticed at once: a second
		// look would only cost time.
		fall.preset, fall.setting = "1", false
	}
	return owned([]key{
		setting("interval", duration(&c.Interval), "from probe to probe"),
		optional("fast_interval", duration(&c.FastInterval), "200ms",
			"while a change is under way, not more than the interval, which is the default"),
		optional("down_interval", duration(&c.DownInterval), "2s", "while down; default: the interval"),
		optional("timeout", duration(&c.Timeout), "500ms", "for one probe, not more than the interval; default: the interval, at most 5s"),
		setting("long_timeout", boolean(&c.LongTimeout),
			"the timeout may exceed the interval: a probe that takes longer is followed by the next at once"),
		setting("jitter", duration(&c.Jitter), "greatest random delay of a probe"),
		optional("start_spread", duration(&c.StartSpread), "1s",
			"greatest random delay of the first probe; default: 0s, of a check of backends the interval, at most "+maxDefaultSpread.String()),
		setting("rise", integer(&c.Rise), "successes in a row that make it up"),
		fall,
		setting("hold_down", duration(&c.HoldDown), "least time that it stays down, so that what flaps moves nothing more often"),
		setting("initial", choice(&c.Initial), "before the first result, which decides alone if unknown; the addresses of a router wait for it"),
		setting("on_error", either(&c.FailStatic, "fail", "ignore"),
			"when it cannot run at all, as when its program is missing: counts as a failure, or changes nothing: "+
				"then an initial state that is unknown stays so, and a router that follows the check never takes its addresses"),
	}, homeOf(&c.Config))
}

// tlsKey is encryption, which is there or not. What its files hold goes to config.
func (c *Check) tlsKey(config **tls.Config) key {
	c.encryption = config
	return optional("tls", maybe(&c.TLS, (*TLS).keys), "", "encryption; default: none, but for https and type tls")
}

func (t *TLS) keys() []key {
	return []key{
		optional("server_name", host(&t.ServerName), "www.example.org", "name to ask for and to verify; default: the host"),
		optional("ca", absolutePath(&t.CA), "/etc/havip/ca.pem", "who is trusted; default: whom the system trusts"),
		optional("certificate", absolutePath(&t.Certificate), "/etc/havip/client.pem", "our own, with its chain"),
		optional("key", absolutePath(&t.Key), "/etc/havip/client.key", "of our certificate; default: the same file"),
		optional("alpn", list(&t.ALPN, protocol), "[h2]",
			"application protocols, the preferred one first: type tls wants the server to choose one of them; h2 makes type http speak HTTP/2"),
		preset("insecure", boolean(&t.Insecure), "false", "verify nothing"),
	}
}

// value is a check. One of backends has no target, and is not of every type.
func (c *Check) value() value {
	types := slices.DeleteFunc(checkTypes(), func(t variant[Check]) bool { return c.ofBackends && t.target == "" })
	return typed(c, &c.Type, types, checkTypes()).position(&c.Pos)
}

// checks is the mapping from names to checks.
func checks(to *[]Check) value {
	return value{
		decode: func(d *decoder, n *yaml.Node, path string) {
			pairs, _ := d.pairs(n, path)
			*to = make([]Check, len(pairs))
			for i, p := range pairs {
				c := &(*to)[i]
				c.Name, c.path = p.name, join(path, p.name)
				if !nameForm.MatchString(p.name) {
					d.failAt(d.position(p.key), path, "%s: want a name of letters, digits, '_', '-' and '.'", keyName(p.name))
				}
				d.decode(c.value(), p.value, c.path)
			}
		},
		variants: func() []section { return new(Check).value().sections() },
		shape:    named,
	}
}

// kind is the entry of a check's type; the zero value if there is none.
func (c *Check) kind() variant[Check] {
	for _, t := range checkTypes() {
		if t.name == c.Type {
			return t
		}
	}
	return variant[Check]{}
}

// present are the rows of a copy of the check, with what it has; nil for no check.
func (c *Check) present() []key {
	if c == nil || c.Checker == nil {
		return nil
	}
	n := *c
	kind := n.kind()
	keys := kind.keys(&n) // which makes a checker
	reflect.ValueOf(n.Checker).Elem().Set(reflect.ValueOf(c.Checker).Elem())
	return append([]key{required("type", word(&n.Type, kind.name), kind.name, "")}, keys...)
}

// New makes the checker of a check. backend is the address to probe if the check is one of
// backends, and empty if the check names its own target. encryption is what the files of TLS
// hold. Where the service sends a PROXY header, so does the checker.
func (c *Check) New(backend string, encryption *tls.Config) healthcheck.Checker {
	var n Check
	kind := c.kind()
	keys := kind.keys(&n)
	reflect.ValueOf(n.Checker).Elem().Set(reflect.ValueOf(c.Checker).Elem())
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == kind.target })
	if backend != "" && i >= 0 {
		*keys[i].value.to[0].to.(*string) = c.targetOf(backend)
	}
	if n.encryption != nil {
		*n.encryption = encryption
	}
	if c.SendProxy != lb.ProxyNone {
		return healthcheck.Proxied{Checker: n.Checker, Version: int(c.SendProxy)}
	}
	return n.Checker
}
