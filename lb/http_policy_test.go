package lb

import (
	"bufio"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"

	"github.com/havip/havip/lb/internal/h1"
)

// policyConfigs are what requests of the random tests are served with.
func policyConfigs(pool *Pool) map[string]*handlerSettings {
	own := map[string]string{"X-Own": "${client}", "X_Odd": "1", "X-Gone": "", "Authorization": "Basic eA=="}
	settings := make(map[string]*handlerSettings)
	for name, cfg := range map[string]HandlerConfig{
		"plain":   {},
		"passing": {Underscores: UnderscoresPass},
		"own":     {RequestHeaders: own, ResponseHeaders: own},
		"trusted": {TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Underscores: UnderscoresPass},
		"strange": {TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, RequestHeaders: own},
	} {
		cfg.Pool = pool
		settings[name] = newHandlerSettings(cfg)
	}
	return settings
}

// policyNames are names for which there is a rule, and some without one.
var policyNames = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade", "HTTP2-Settings", "Expect",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Max-Forwards", "Authorization", "Cookie",
	"X_Real_IP", "X.Forwarded.For", "x_other", "X-Own", "X-Odd", "x-own", "X-Gone", "Accept", "SOAPAction", "x-a", "X-B", "Date",
}

var policyValues = []string{
	"", "1", "close", "keep-alive", "trailers", "100-continue", "gzip, trailers", "websocket", "h2c, WebSocket/13", "Upgrade", "TE, close", "upgrade, X-A",
	"X-Forwarded-For, x-real-ip, TE", "X-Sum, Content-Length, x-a", "192.0.2.9", "198.51.100.7, 203.0.113.1", "https", "NTLM abc", "\xff\xe4",
}

// drawFields draws lines of fields.
func drawFields(t *rapid.T) string {
	var b strings.Builder
	for range rapid.IntRange(0, 12).Draw(t, "fields") {
		name := rapid.SampledFrom(policyNames).Draw(t, "name")
		switch rapid.IntRange(0, 3).Draw(t, "case") {
		case 0:
			name = strings.ToLower(name)
		case 1:
			name = strings.ToUpper(name)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, rapid.SampledFrom(policyValues).Draw(t, "value"))
	}
	return b.String()
}

// drawRequest draws the head of a request that is no nonsense as a message.
func drawRequest(t *rapid.T) string {
	method := rapid.SampledFrom([]string{"GET", "GET", "POST", "POST", "OPTIONS", "TRACE", "CONNECT", "get"}).Draw(t, "method")
	target := rapid.SampledFrom([]string{"/", "/", "/", "/a%2fb?c", "/a%2fb?c", "/a?b", "*", "http://y/z", "http://y", "https://u@y/", "//a", "/%zz", "/#", "y:80"}).Draw(t, "target")
	version := rapid.SampledFrom([]string{"1.0", "1.1"}).Draw(t, "version")
	host := rapid.SampledFrom([]string{"x", "x", "x:80", "[::1]", "a@b", ""}).Draw(t, "host")
	length := ""
	if method == "POST" {
		length = rapid.SampledFrom([]string{"", "Content-Length: 3\r\n", "Content-Length: 0\r\n"}).Draw(t, "length")
		if version == "1.1" && length == "" {
			length = "Transfer-Encoding: chunked\r\n"
		}
	}
	return fmt.Sprintf("%s %s HTTP/%s\r\nHost: %s\r\n%s%s\r\n", method, target, version, host, length, drawFields(t))
}

// TestPolicyOfRequests: whatever a client sends, backends get a well-formed request, in which
// nothing of the connection to the client is left, and what is said of the client is true.
func TestPolicyOfRequests(t *testing.T) {
	settings := policyConfigs(newPool(t, PoolConfig{}))
	rapid.Check(t, func(t *rapid.T) {
		head := drawRequest(t)
		for which, cfg := range settings {
			checkPolicy(t, which, openDrawn(t, cfg, head))
		}
	})
}

// checkPolicy checks what backends get of a request.
func checkPolicy(t *rapid.T, which string, x *exchange) {
	if x.refusal() != 0 || x.decide() != passOn {
		return
	}
	x.prepare()
	body := x.req.Length != 0
	sent := x.appendRequest(nil, body, x.expect)
	var got h1.Request
	if n, err := got.Parse(sent, h1.Limits{}); n != len(sent) || err != nil {
		t.Fatalf("%q: %d of %d bytes, %v", sent, n, len(sent), err)
	}
	if got.Close || got.Target != x.target || got.Length != x.req.Length || (got.Host == "") != (x.host == "") {
		t.Errorf("%q: %+v", sent, got)
	}
	checkForwarded(t, which, &got, x)
	for _, f := range got.Fields {
		if connectionOnly(f) {
			t.Errorf("%q: %s: %s", sent, f.Name, f.Value)
		}
		if x.cfg.folds.drops(&f) && !x.cfg.requestFields.sets(&f) {
			t.Errorf("%q: %s is passed", sent, f.Name)
		}
		ours := ownAt[f.ID] != ownFields || holds(neverPassed, f.ID) || x.cfg.requestFields.sets(&f)
		if x.isOption(&f) && !ours {
			t.Errorf("%q: %s is passed, which Connection names", sent, f.Name)
		}
	}
	checkPlaces(t, &got, x)
}

// checkPlaces checks that what came stays as it came, and in its order.
func checkPlaces(t *rapid.T, got *h1.Request, x *exchange) {
	rest := x.req.Fields
	for _, f := range got.Fields {
		named := func(came h1.Field) bool { return came.Name == f.Name }
		if neverPassed&h1.SetOf(f.ID) != 0 || x.cfg.requestFields.sets(&f) || !slices.ContainsFunc(x.req.Fields, named) {
			continue // decided on here
		}
		at := slices.IndexFunc(rest, named)
		if at < 0 {
			t.Fatalf("%s is not in its place in %+v", f.Name, got.Fields)
		}
		rest = rest[at+1:]
	}
	free := func(fields []h1.Field) (lines []string) {
		for _, f := range fields {
			if slices.Contains([]string{"accept", "soapaction", "x-b", "date", "cookie"}, strings.ToLower(f.Name)) {
				lines = append(lines, f.Name+": "+f.Value)
			}
		}
		return lines
	}
	if came, passed := free(x.req.Fields), free(got.Fields); !slices.Equal(came, passed) {
		t.Errorf("%q came, %q went", came, passed)
	}
}

// openDrawn opens an exchange for a head, which is parsed.
func openDrawn(t *rapid.T, settings *handlerSettings, head string) *exchange {
	req := new(h1.Request)
	n, err := req.Parse([]byte(head), h1.Limits{})
	if err != nil && strings.Contains(err.Error(), "Trailer announces") {
		t.Skip("the parser refuses this already")
	}
	if n != len(head) || err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	x := new(exchange)
	x.open(settings, new(counters), &testOrigin, req, time.Now())
	return x
}

// connectionOnly reports whether a field concerns the client's connection, and not the one to
// the backend.
func connectionOnly(f h1.Field) bool {
	switch f.ID {
	case h1.KeepAlive, h1.ProxyConnection, h1.ProxyAuthorization, h1.ProxyAuthenticate, h1.HTTP2Settings:
		return true
	case h1.Connection:
		return !slices.Contains([]string{"TE", "Upgrade", "TE, Upgrade"}, f.Value)
	case h1.TE:
		return f.Value != "trailers"
	case h1.Upgrade:
		return strings.Contains(strings.ToLower(f.Value), "h2c")
	}
	return false
}

// checkForwarded checks what backends are told of the client.
func checkForwarded(t *rapid.T, which string, got *h1.Request, x *exchange) {
	values := make(map[h1.ID][]string)
	for _, f := range got.Fields {
		values[f.ID] = append(values[f.ID], f.Value)
	}
	client := x.from.clientText
	if f := values[h1.XForwardedFor]; len(f) != 1 || !strings.HasSuffix(", "+f[0], ", "+client) || which == "strange" && f[0] != client {
		t.Errorf("X-Forwarded-For %q", f)
	}
	if which == "trusted" {
		return
	}
	if f := values[h1.XRealIP]; len(f) != 1 || f[0] != client {
		t.Errorf("X-Real-IP %q", f)
	}
	if f := values[h1.XForwardedProto]; len(f) != 1 || f[0] != "http" {
		t.Errorf("X-Forwarded-Proto %q", f)
	}
	if f := values[h1.XForwardedHost]; strings.Join(f, "") != x.authority {
		t.Errorf("X-Forwarded-Host %q", f)
	}
	if f := values[h1.Forwarded]; which == "strange" && len(f) > 0 {
		t.Errorf("Forwarded %q", f)
	}
}

// canonicalLines returns the lines of a head in an order, and with names, that do not depend
// on those in which they came. Trailer has names, too: net/http writes them in its own way,
// and in their order.
func canonicalLines(head []byte) string {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if name = http.CanonicalHeaderKey(name); name == "Trailer" {
			names := strings.Split(strings.ToLower(value), ",")
			for i := range names {
				names[i] = strings.TrimSpace(names[i])
			}
			slices.Sort(names)
			value = strings.Join(slices.Compact(names), ",")
		}
		lines[i+1] = name + ":" + value
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n")
}

// readAsServer reads a head as the server of net/http does, which looks at Host before a Handler
// is called: refused is the status that such a client gets. http.ReadRequest forgets the field
// when an absolute target stands for it. r is nil where net/http cannot read what h1 can.
func readAsServer(t *rapid.T, head string) (r *http.Request, refused int) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		return nil, 0
	}
	_, lines, _ := strings.Cut(head, "\r\n")
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(lines))).ReadMIMEHeader()
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	if !httpguts.ValidHostHeader(fields.Get("Host")) {
		return nil, http.StatusBadRequest
	}
	return r, 0
}

// TestPolicyBehindNetHTTP: a request makes the same request for backends whether net/http has
// parsed it or h1, or is refused with the same status.
func TestPolicyBehindNetHTTP(t *testing.T) {
	settings := policyConfigs(newPool(t, PoolConfig{}))
	rapid.Check(t, func(t *rapid.T) {
		head := drawRequest(t)
		decide := func(cfg *handlerSettings, req *h1.Request, hook *http.Request) string {
			x := new(exchange)
			x.open(cfg, new(counters), &testOrigin, req, time.Now())
			if x.hook = hook; x.refusal() != 0 {
				return fmt.Sprint(x.refusal())
			}
			if x.decide() != passOn {
				return fmt.Sprint(x.reply.status, " ", x.reply.kind, canonicalLines(x.reply.content))
			}
			x.prepare()
			upgrades := strings.Join(x.upgrades, "|")
			return fmt.Sprintf("%s\n%s %s %v", canonicalLines(x.appendRequest(nil, req.Length != 0, x.expect)), x.flow.Key, upgrades, x.keptFor())
		}
		r, refused := readAsServer(t, head)
		if r == nil && refused == 0 {
			return
		}
		var theirs h1.Request
		if refused == 0 {
			readHead(&theirs, r)
		}
		for which, cfg := range settings {
			got, want := decide(cfg, openDrawn(t, cfg, head).req, nil), fmt.Sprint(refused)
			if refused == 0 {
				want = decide(cfg, &theirs, r)
			}
			if got != want {
				t.Errorf("%s: %q\n%s\nbehind net/http\n%s", which, head, got, want)
			}
		}
	})
}
