package config

import (
	"crypto/tls"
	"net"
	"net/url"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/field"
)

// checkTypes are the checkers of package healthcheck: a new one needs an entry here.
// Its rows make the checker that they point into.
func checkTypes() []variant[Check] {
	return []variant[Check]{
		{name: "tcp", doc: "up when a connection is accepted, and what is expected comes back", target: "address",
			keys: func(c *Check) []key {
				t := new(healthcheck.TCP)
				c.Checker = t
				return owned([]key{
					connectTo(&t.Address),
					optional("send", octets(&t.Send), "PING", "what is sent first; hex: and digits for any bytes").secret(),
					optional("expect", octets(&t.Expect), "PONG", "what must be in the reply; hex: and digits for any bytes"),
					optional("expect_regexp", expression(&t.ExpectRegexp), "^220", "what the reply must match"),
				}, homeOf(t))
			}},
		{name: "http", doc: "up when a request is answered with a good status; redirects are not followed", target: "url", at: (*Check).urlOf,
			keys: func(c *Check) []key {
				h := new(healthcheck.HTTP)
				c.Checker, c.encryption = h, &h.TLS
				return owned([]key{
					optional("url", webAddress(&h.URL), "http://127.0.0.1:8080/health", "what to ask for; leave it out in a check of backends").secret(),
					preset("path", webPath(&c.Path), "/", "what to ask backends for, in place of url").secret(),
					setting("method", plain(&h.Method), "of the request"),
					optional("host", plain(&h.Host), "www.example.org", "Host header; default: the address that is asked"),
					optional("headers", httpHeader(&h.Header), "{Accept: text/plain}", "of the request").secret(),
					setting("status", statuses(&h.Status), "good statuses: one, a range or a list"),
					optional("body", expression(&h.Body), "healthy", "regular expression that the body must match; default: not read"),
					setting("max_body", integer(&h.MaxBody), "bytes of the body that are looked at"),
					c.tlsKey(),
				}, homeOf(h))
			}},
		{name: "grpc", doc: "up when grpc.health.v1 says SERVING", target: "address",
			keys: func(c *Check) []key {
				g := new(healthcheck.GRPC)
				c.Checker, c.encryption = g, &g.TLS
				return owned([]key{
					connectTo(&g.Address),
					optional("service", plain(&g.Service), "echo.Echo", "default: the server as a whole"),
					optional("authority", plain(&g.Authority), "www.example.org", "default: the address"),
					c.tlsKey(),
				}, homeOf(g))
			}},
		{name: "dns", doc: "up when a name server has the answers", target: "address",
			keys: func(c *Check) []key {
				n := new(healthcheck.DNS)
				c.Checker = n
				return owned([]key{
					connectTo(&n.Server),
					required("query", plain(&n.Name), "www.example.org", "the name to look up"),
					setting("record", word(&n.Type, recordTypes...), "its type"),
					optional("answers", list(&n.Expect, plain), "[192.0.2.1]", "those that must be there; default: any"),
					setting("over_tcp", boolean(&n.TCP), "ask by TCP at once"),
				}, homeOf(n))
			}},
		{name: "icmp", doc: "up when an echo request is answered", target: "target", at: (*Check).hostOf,
			keys: func(c *Check) []key {
				i := new(healthcheck.ICMP)
				c.Checker = i
				return owned([]key{
					optional("target", plain(&i.Address), "192.168.31.1", "address or host; leave it out in a check of backends"),
				}, homeOf(i))
			}},
		{name: "udp", doc: "up when a datagram is answered, or at least not refused", target: "address",
			keys: func(c *Check) []key {
				u := new(healthcheck.UDP)
				c.Checker = u
				return owned([]key{
					connectTo(&u.Address),
					optional("send", octets(&u.Send), "PING", "what is sent first; hex: and digits for any bytes").secret(),
					optional("expect", octets(&u.Expect), "PONG", "what must be in the reply; hex: and digits for any bytes"),
					optional("expect_regexp", expression(&u.ExpectRegexp), "^220", "what the reply must match"),
					setting("allow_silence", boolean(&u.AllowSilence), "no reply is a good one, as of a log server"),
				}, homeOf(u))
			}},
		{name: "smtp", doc: "up when a mail server greets", target: "address",
			keys: func(c *Check) []key {
				s := new(healthcheck.SMTP)
				c.Checker, c.encryption = s, &s.TLS
				return owned([]key{
					connectTo(&s.Address),
					optional("hello", plain(&s.Hello), "lb01.example.org", "name given in EHLO; default: the machine's"),
					setting("starttls", boolean(&s.StartTLS), "encrypt after the greeting"),
					c.tlsKey(),
				}, homeOf(s))
			}},
		{name: "tls", doc: "up when the certificate is valid for long enough", target: "address",
			keys: func(c *Check) []key {
				t := new(healthcheck.TLS)
				c.Checker, c.encryption = t, &t.Config
				return owned([]key{
					connectTo(&t.Address),
					setting("min_validity", duration(&t.MinValidity), "for how long the certificate must still be valid; 336h are 14 days"),
					c.tlsKey(),
				}, homeOf(t))
			}},
		{name: "exec", doc: "up when a program exits with 0",
			keys: func(c *Check) []key {
				e := new(healthcheck.Exec)
				c.Checker = e
				return owned([]key{
					required("command", program(e), "[/usr/bin/pgrep, nginx]", "program and arguments; no shell; root runs only what nobody else can change"),
					optional("user", plain(&e.User), "nobody", "who it runs as; default: the user of havip"),
					optional("environment", environment(&e.Env), "{LANG: C}", "beyond PATH; nothing is inherited").secret(),
					setting("directory", plain(&e.Dir), "where it runs"),
				}, homeOf(e))
			}},
		{name: "file", doc: "up while a file is there, or not there; noticed at once", presets: atOnce,
			keys: func(c *Check) []key {
				f := new(healthcheck.File)
				c.Checker = f
				return owned([]key{
					required("file", absolutePath(&f.Path), "/run/havip/maintenance", "the file to look at"),
					setting("absent", boolean(&f.Absent), "up while there is no such file"),
					setting("max_age", duration(&f.MaxAge), "since it was modified; 0s: any"),
					optional("content", expression(&f.Content), "^ok",
						"regular expression that it must match, and then fall is 2 by default: a file is not written at once; default: not read"),
				}, homeOf(f))
			}},
		{name: "process", doc: "up while a process runs; its end is noticed at once", presets: atOnce,
			keys: func(c *Check) []key {
				p := new(healthcheck.Process)
				c.Checker = p
				return owned([]key{
					required("process", plain(&p.Name), "nginx", "its name"),
					optional("pid_file", absolutePath(&p.PIDFile), "/run/nginx.pid", "file with its number; default: any process of that name"),
					setting("min_processes", integer(&p.Min), "how many of that name must run"),
				}, homeOf(p))
			}},
		{name: "interface", doc: "up while an interface is up and has a carrier; noticed at once", presets: atOnce,
			keys: func(c *Check) []key {
				i := new(healthcheck.Interface)
				c.Checker = i
				return owned([]key{required("interface", plain(&i.Name), "eth0", "network interface")}, homeOf(i))
			}},
		{name: "gateway", doc: "up when a neighbour answers ARP or neighbour discovery",
			keys: func(c *Check) []key {
				g := new(healthcheck.Gateway)
				c.Checker = g
				return owned([]key{
					required("interface", plain(&g.Interface), "eth0", "network interface"),
					required("gateway", address(&g.Address), "192.168.31.1", "the neighbour's address"),
				}, homeOf(g))
			}},
	}
}

// atOnce is for what does not come and go by chance, and whose end is noticed
// at once: a second look would only cost time.
var atOnce = map[string]string{"fall": "1"}

var recordTypes = alternatives(field.All(healthcheck.DNS{Server: "192.0.2.1:53", Name: "x", Type: "?"}.Validate())[0].Err)

// connectTo is the row of what most types of checks connect to.
func connectTo(to *string) key {
	return optional("address", plain(to), "127.0.0.1:8080", "where to connect; leave it out in a check of backends")
}

// maxDefaultSpread bounds the time in which checks of backends begin: until then a
// backend is taken for alive.
const maxDefaultSpread = time.Second

// urlOf is what is asked of a backend.
func (c *Check) urlOf(backend string) string {
	u := url.URL{Scheme: "http", Host: backend}
	if c.TLS != nil {
		u.Scheme = "https"
	}
	return u.String() + c.Path
}

func (c *Check) hostOf(backend string) string {
	if host, _, err := net.SplitHostPort(backend); err == nil {
		return host
	}
	return backend
}

// keys are those of every check.
func (c *Check) keys() []key {
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
		setting("fall", integer(&c.Fall), "failures in a row that make it down: the second is asked for after the fast interval"),
		setting("hold_down", duration(&c.HoldDown), "least time that it stays down, so that what flaps moves nothing more often"),
		setting("initial", choice(&c.Initial), "before the first result, which decides alone if unknown; the addresses of a router wait for it"),
		setting("on_error", either(&c.FailStatic, "fail", "ignore"),
			"when it cannot run at all, as when its program is missing: counts as a failure, or changes nothing: "+
				"then an initial state that is unknown stays so, and a router that follows the check never takes its addresses"),
	}, homeOf(&c.Config))
}

// tlsKey is encryption, which is there or not.
func (c *Check) tlsKey() key {
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

// value is a check. One in a service has no target of its own.
func (c *Check) value(inService bool) value {
	types := checkTypes()
	if inService {
		types = slices.DeleteFunc(types, func(t variant[Check]) bool { return t.target == "" })
		for i := range types {
			all, target := types[i].keys, types[i].target
			types[i].keys = func(c *Check) []key {
				return slices.DeleteFunc(all(c), func(k key) bool { return k.name == target })
			}
		}
	}
	return typed(&c.Pos, c, &c.Type, (*Check).keys, types, checkTypes())
}

// checks is the mapping from names to checks.
func checks(to *[]Check) value {
	return value{
		decode: func(d *decoder, n *yaml.Node, path string) {
			pairs, _ := d.pairs(n, path)
			*to = make([]Check, len(pairs))
			for i, p := range pairs {
				c := &(*to)[i]
				c.Name = p.name
				if !nameForm.MatchString(p.name) {
					d.failAt(d.position(p.key), path, "%s: want a name of letters, digits, '_', '-' and '.'", keyName(p.name))
				}
				d.decode(c.value(false), p.value, join(path, p.name))
			}
		},
		variants: func() []section { return new(Check).value(false).sections() },
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

// New makes the checker of a check. backend is the address to probe if the check is
// one of backends, and empty if the check names its own target. encryption is what
// the files of TLS hold.
func (c *Check) New(backend string, encryption *tls.Config) healthcheck.Checker {
	var n Check
	kind := c.kind()
	keys := kind.keys(&n)
	reflect.ValueOf(n.Checker).Elem().Set(reflect.ValueOf(c.Checker).Elem())
	for _, k := range keys {
		if backend == "" || k.name != kind.target {
			continue
		}
		to := k.value.to[0].(*string)
		if *to = backend; kind.at != nil {
			*to = kind.at(c, backend)
		}
	}
	if n.encryption != nil {
		*n.encryption = encryption
	}
	return n.Checker
}
