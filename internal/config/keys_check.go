package config

import (
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/internal/field"
)

// variant is a row of checkTypes or authTypes: a word for the key type, and the
// keys that go with it.
type variant struct {
	name string
	doc  string
	keys []string
	// target, of a check, is the key that says what is probed. A check without
	// it is one of backends, each probed at its own address. A type without
	// target cannot probe backends.
	target string
	// presets are defaults that differ from those of other types.
	presets map[string]string
}

// atOnce is for what does not come and go by chance, and whose end is noticed
// at once: a second look would only cost time.
var atOnce = map[string]string{"fall": "1"}

var checkTypes = []variant{
	{name: "tcp", doc: "up when a connection is accepted, and what is expected comes back",
		keys: []string{"address", "send", "expect", "expect_regexp"}, target: "address"},
	{name: "http", doc: "up when a request is answered with a good status; redirects are not followed",
		keys: []string{"url", "path", "method", "host", "headers", "status", "body", "max_body", "tls"}, target: "url"},
	{name: "grpc", doc: "up when grpc.health.v1 says SERVING",
		keys: []string{"address", "service", "authority", "tls"}, target: "address"},
	{name: "dns", doc: "up when a name server has the answers",
		keys: []string{"address", "query", "record", "answers", "over_tcp"}, target: "address"},
	{name: "icmp", doc: "up when an echo request is answered",
		keys: []string{"target"}, target: "target"},
	{name: "udp", doc: "up when a datagram is answered, or at least not refused",
		keys: []string{"address", "send", "expect", "expect_regexp", "allow_silence"}, target: "address"},
	{name: "smtp", doc: "up when a mail server greets",
		keys: []string{"address", "hello", "starttls", "tls"}, target: "address"},
	{name: "tls", doc: "up when the certificate is valid for long enough",
		keys: []string{"address", "min_validity", "tls"}, target: "address"},
	{name: "exec", doc: "up when a program exits with 0",
		keys: []string{"command", "user", "environment", "directory"}},
	{name: "file", doc: "up while a file is there, or not there; noticed at once",
		keys: []string{"file", "absent", "max_age", "content"}, presets: atOnce},
	{name: "process", doc: "up while a process runs; its end is noticed at once",
		keys: []string{"process", "pid_file", "min_processes"}, presets: atOnce},
	{name: "interface", doc: "up while an interface is up and has a carrier; noticed at once",
		keys: []string{"interface"}, presets: atOnce},
	{name: "gateway", doc: "up when a neighbour answers ARP or neighbour discovery",
		keys: []string{"interface", "gateway"}},
}

func (c *Check) keys() []key {
	keys := append([]key{kind(&c.Type, checkTypes)}, c.pace()...)
	return append(append(append(keys, c.network()...), c.web()...), c.local()...)
}

// pace are the keys of every check.
func (c *Check) pace() []key {
	return []key{
		preset("interval", durationIn(&c.Interval, 10*time.Millisecond, time.Hour), "1s", "from probe to probe"),
		optional("fast_interval", durationIn(&c.FastInterval, 10*time.Millisecond, time.Hour), "200ms",
			"while a change is under way, not more than the interval, which is the default"),
		optional("down_interval", durationIn(&c.DownInterval, 10*time.Millisecond, time.Hour), "2s",
			"while down; default: the interval"),
		optional("timeout", durationIn(&c.Timeout, time.Millisecond, time.Hour), "500ms",
			"for one probe, not more than the interval; default: the interval, at most "+field.Span(maxDefaultTimeout)),
		preset("long_timeout", boolean(&c.LongTimeout), "false",
			"the timeout may exceed the interval: a probe that takes longer is followed by the next at once"),
		preset("jitter", durationIn(&c.Jitter, 0, time.Hour), "0s", "greatest random delay of a probe"),
		optional("start_spread", durationIn(&c.StartSpread, 0, time.Hour), "1s",
			"greatest random delay of the first probe; default: 0s, of a check of backends the interval, at most "+field.Span(maxDefaultSpread)),
		preset("rise", integerIn(&c.Rise, 1, 100), "2", "successes in a row that make it up"),
		preset("fall", integerIn(&c.Fall, 1, 100), "2", "failures in a row that make it down: the second is asked for after the fast interval"),
		preset("hold_down", durationIn(&c.HoldDown, 0, 24*time.Hour), "0s",
			"least time that it stays down, so that what flaps moves nothing more often"),
		preset("initial", word(&c.Initial, "unknown", "up", "down"), "unknown", "before the first result, which decides alone if unknown; the addresses of a router wait for it"),
		preset("on_error", word(&c.OnError, "fail", "ignore"), "fail",
			"when it cannot run at all, as when its program is missing: counts as a failure, or changes nothing: "+
				"then an initial state that is unknown stays so, and a router that follows the check never takes its addresses"),
	}
}

// network are the keys of checks over a network, but for those of the web.
func (c *Check) network() []key {
	return []key{
		optional("address", hostPort(&c.Address), "127.0.0.1:8080",
			"where to connect; leave it out in a check of backends"),
		optional("send", octets(&c.Send), "PING", "what is sent first; hex: and digits for any bytes").secret(),
		optional("expect", octets(&c.Expect), "PONG", "what must be in the reply; hex: and digits for any bytes"),
		optional("expect_regexp", expression(&c.ExpectRegexp), "^220", "what the reply must match"),
		preset("allow_silence", boolean(&c.AllowSilence), "false", "no reply is a good one, as of a log server"),
		optional("service", text(&c.Service, "the name of a service", isPrintable), "echo.Echo", "default: the server as a whole"),
		optional("authority", hostHeader(&c.Authority), "www.example.org", "default: the address"),
		required("query", dnsName(&c.Query), "www.example.org", "the name to look up"),
		preset("record", word(&c.Record, "A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"), "A", "its type"),
		optional("answers", list(&c.Answers, func(s *string) value { return text(s, "an answer", isPrintable) }), "[192.0.2.1]",
			"those that must be there; default: any"),
		preset("over_tcp", boolean(&c.OverTCP), "false", "ask by TCP at once"),
		optional("target", host(&c.Target), "192.168.31.1", "address or host; leave it out in a check of backends"),
		optional("hello", hostHeader(&c.Hello), "lb01.example.org", "name given in EHLO; default: the machine's"),
		preset("starttls", boolean(&c.StartTLS), "false", "encrypt after the greeting"),
		preset("min_validity", durationIn(&c.MinValidity, 0, 10*365*24*time.Hour), "0s",
			"for how long the certificate must still be valid; 336h are 14 days"),
		optional("tls", c.tls(), "", "encryption; default: none, but for https and type tls"),
	}
}

// web are the keys of type http.
func (c *Check) web() []key {
	return []key{
		optional("url", webAddress(&c.URL), "http://127.0.0.1:8080/health",
			"what to ask for; leave it out in a check of backends").secret(),
		preset("path", webPath(&c.Path), "/", "what to ask backends for, in place of url").secret(),
		preset("method", method(&c.Method), "GET", "of the request"),
		optional("host", hostHeader(&c.Host), "www.example.org", "Host header; default: the address that is asked"),
		optional("headers", fields(&c.Headers), "{Accept: text/plain}", "of the request").secret(),
		preset("status", statuses(&c.Status), "200-399", "good statuses: one, a range or a list"),
		optional("body", expression(&c.Body), "healthy", "regular expression that the body must match; default: not read"),
		preset("max_body", integerIn(&c.MaxBody, 1, 16<<20), "65536", "bytes of the body that are looked at"),
	}
}

// local are the keys of checks of this machine.
func (c *Check) local() []key {
	return []key{
		required("command", command(&c.Command), "[/usr/bin/pgrep, nginx]",
			"program and arguments; no shell; root runs only what nobody else can change"),
		optional("user", text(&c.User, "user, or user:group", userForm.MatchString), "nobody", "who it runs as; default: the user of havip"),
		optional("environment", environment(&c.Environment), "{LANG: C}", "beyond PATH; nothing is inherited").secret(),
		optional("directory", absolutePath(&c.Directory), "/var/lib", "where it runs; default: /"),
		required("file", absolutePath(&c.File), "/run/havip/maintenance", "the file to look at"),
		preset("absent", boolean(&c.Absent), "false", "up while there is no such file"),
		preset("max_age", durationIn(&c.MaxAge, 0, 10*365*24*time.Hour), "0s", "since it was modified; 0s: any"),
		optional("content", expression(&c.Content), "^ok", "regular expression that it must match, and then fall is 2 by default: a file is not written at once; default: not read"),
		required("process", text(&c.Process, "the name of a process", isPrintable), "nginx", "its name"),
		optional("pid_file", absolutePath(&c.PIDFile), "/run/nginx.pid", "file with its number; default: any process of that name"),
		preset("min_processes", integerIn(&c.MinProcesses, 1, 10000), "1", "how many of that name must run"),
		required("interface", interfaceName(&c.Interface), "eth0", "network interface"),
		required("gateway", address(&c.Gateway), "192.168.31.1", "the neighbour's address"),
	}
}

// tls is a mapping that is there or not.
func (c *Check) tls() value {
	c.TLS = nil
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		c.TLS = new(TLS)
		object(nil, c.TLS.keys()).decode(d, n, path)
	}, keys: new(TLS).keys()}
}

func (t *TLS) keys() []key {
	return []key{
		optional("server_name", host(&t.ServerName), "www.example.org", "name to ask for and to verify; default: the host"),
		optional("ca", absolutePath(&t.CA), "/etc/havip/ca.pem", "who is trusted; default: whom the system trusts"),
		optional("certificate", absolutePath(&t.Certificate), "/etc/havip/client.pem", "the client's; needs key"),
		optional("key", absolutePath(&t.Key), "/etc/havip/client.key", "of the client's certificate"),
		optional("alpn", list(&t.ALPN, func(s *string) value { return text(s, "a protocol such as h2", isPrintable) }), "[h2]",
			"application protocols, the preferred one first: type tls wants the server to choose one of them; h2 makes type http speak HTTP/2"),
		preset("insecure", boolean(&t.Insecure), "false", "verify nothing"),
	}
}

// maxDefaultTimeout bounds the timeout of a check that does not set one, and
// maxDefaultSpread the time in which checks of backends begin: until then a
// backend is taken for alive.
const (
	maxDefaultTimeout = 5 * time.Second
	maxDefaultSpread  = time.Second
)

// value is a check. One in a service has no target of its own.
func (c *Check) value(inService bool) value {
	var types []variant
	for _, t := range checkTypes {
		if inService && t.target == "" {
			continue
		}
		if inService {
			t.keys = slices.DeleteFunc(slices.Clone(t.keys), func(k string) bool { return k == t.target })
		}
		types = append(types, t)
	}
	keys := c.keys()
	keys[0] = kind(&c.Type, types)
	return typed(&c.Pos, keys, checkTypes, types)
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
