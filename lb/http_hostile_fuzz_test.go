package lb

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// FuzzRules: whatever clients say, and whatever rules there are, what comes out is one request
// that the strictest backend takes, and one answer. A path that is rewritten is below what was
// put before it.
func FuzzRules(f *testing.F) {
	var settings []*handlerSettings
	pool := newPool(f, PoolConfig{Balance: KeyHash, Backends: []Backend{{Name: "1", Address: "127.0.0.1:1"}, {Name: "2", Address: "127.0.0.1:2"}}})
	for i, set := range ruleSets {
		cfg := set.build(f)
		cfg.Pool = pool
		if err := cfg.Validate(); err != nil {
			f.Fatal(set.name, err)
		}
		settings = append(settings, newHandlerSettings(cfg))
		for _, c := range conversations {
			f.Add(byte(i), []byte(c.client), []byte(c.backend))
		}
		for _, head := range hostileHeads {
			f.Add(byte(i), []byte(head), []byte(anOK))
		}
	}
	from := newRequestOrigin(netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:80"), nil)
	f.Fuzz(func(t *testing.T, set byte, client, backend []byte) {
		at := int(set) % len(settings)
		var req h1.Request
		n, err := req.Parse(client, h1.Limits{})
		if n == 0 || err != nil {
			return
		}
		x := new(exchange)
		x.open(settings[at], new(counters), &from, &req, time.Now())
		defer x.close(time.Now())
		if status := x.refusal(); status != 0 {
			return
		}
		v := x.decide()
		if v == awaitHere {
			v = x.decideLogin(logins.verify(context.Background(), x.claim))
		}
		if v != passOn {
			checkReply(t, x)
			return
		}
		checkPassed(t, x, ruleSets[at].name)
		checkAnswered(t, x, backend)
	})
}

// hostileHeads are requests that rules could be misled by.
var hostileHeads = []string{
	"GET /b../secret HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /b%2e%2e/secret HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /b/..%2f..%2fsecret HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /%0d%0aX-B:%201 HTTP/1.1\r\nHost: y\r\n\r\n",
	"GET /a%20HTTP/1.1%0d%0aHost:%20z%0d%0a%0d%0a HTTP/1.1\r\nHost: a.y\r\n\r\n",
	"GET //evil.test/%2f HTTP/1.1\r\nHost: x\r\n\r\n",
	"HEAD //evil.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /\\evil.test HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /?a=%0d%0aX:1&a=2 HTTP/1.1\r\nHost: x\r\nX-A: \tb \r\nCookie: a=b; a=\"c\"; a\r\n\r\n",
	"GET /c/.?a=b HTTP/1.1\r\nHost: X.:80\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1\r\nForwarded: for=\"\r\nVia: a,,b\r\n\r\n",
	"POST /%3f%23%25 HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\nabc",
	"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2hhOnNlY3JldA==\r\nCookie: a=AAAA; b=c\r\nX_A: 1\r\n\r\n",
	"GET /%ff%c0%ae%c0%ae/ HTTP/1.1\r\nHost: \xc3\r\nX-A: \xff\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: y\r\n\r\n",
	"GET http://y?/../a HTTP/1.1\r\nHost: x\r\n\r\n",
}

// checkPassed looks at what a backend would get.
func checkPassed(t *testing.T, x *exchange, rules string) {
	t.Helper()
	x.prepare()
	if rules == "bodies and retries" && x.length == h1.Chunked && len(x.trailers) == 0 {
		x.length = 0 // as if the body was held
	}
	head := string(x.appendRequest(nil, x.length != 0, false))
	body := map[bool]string{true: "0\r\n\r\n"}[x.length == h1.Chunked]
	if x.length > 0 && x.length < 1<<10 {
		body = strings.Repeat("x", int(x.length))
	} else if x.length > 0 {
		return // of no matter here
	}
	if err := strictRequest(head + body); err != nil {
		t.Errorf("a backend gets %q: %v", head, err)
	}
	if rules == "routes that rewrite" && x.target != "*" {
		path, _, _ := strings.Cut(x.target, "?")
		if !strings.HasPrefix(path, jail) || escapesJail.MatchString(path) {
			t.Errorf("%q became %q", x.req.Target, x.target)
		}
	}
	if x.cfg.sticky != nil && x.tokens == "" && strings.Contains(head, "\r\nCookie: a=") {
		t.Errorf("a backend gets our cookie: %q", head)
	}
}

// checkAnswered looks at what the client would get of a backend's response.
func checkAnswered(t *testing.T, x *exchange, backend []byte) {
	t.Helper()
	var res h1.Response
	n, err := res.Parse(backend, x.req.Method, h1.Limits{})
	if n == 0 || err != nil || res.Status < 200 {
		return
	}
	pick, err := x.cfg.Pool.pickInTurn(&x.flow)
	if err != nil {
		t.Fatal(err)
	}
	x.begin(pick)
	if x.intercepts(res.Status) {
		x.intercept(&res)
		checkReply(t, x)
		return
	}
	x.responded(&res, false)
	fields := x.responseFields(&res, x.from.local.Addr())
	if x.cfg.locations != nil {
		checkLocations(t, x, res.Fields, fields)
	}
	checkAnswer(t, x, h1.AppendFields(nil, fields))
}

// checkLocations looks at where a backend's response leads, as a browser takes it: to a host of
// the ruleSets, to one that the backend has named, or to the client's own.
func checkLocations(t *testing.T, x *exchange, sent, fields []h1.Field) {
	t.Helper()
	var known []string
	schemes := []string{"http", "https"} // and what a backend has said itself
	for _, f := range sent {
		known = append(known, f.Value)
		scheme, _, _ := strings.Cut(f.Value, ":")
		schemes = append(schemes, strings.ToLower(scheme))
		if u, err := url.Parse(f.Value); err == nil {
			known = append(known, strings.ToLower(u.Hostname()))
		} else { // a rule may leave out what is wrong with it
			known = append(known, strings.ToLower(hostOfURL(f.Value)))
		}
	}
	own, _ := hostOnly(x.authority)
	known = append(known, strings.ToLower(own))
	for _, f := range fields {
		if f.ID != h1.Location || slices.Contains(known, f.Value) {
			continue
		}
		if strings.HasPrefix(f.Value, "/") && !strings.HasPrefix(f.Value, "//") && !strings.HasPrefix(f.Value, `/\`) && !strings.ContainsAny(f.Value, "\t") {
			continue
		}
		u, err := url.Parse(strings.ReplaceAll(f.Value, `\`, "/"))
		if err != nil {
			continue // a browser shows an error
		}
		host := strings.ToLower(u.Hostname())
		if !slices.Contains(schemes, u.Scheme) || host == "" || !strings.HasSuffix(host, ".example.org") && !slices.Contains(known, host) {
			t.Errorf("%q became %q, which leads to %q", sent, f.Value, host)
		}
	}
}

// checkReply looks at an answer that is made here.
func checkReply(t *testing.T, x *exchange) {
	t.Helper()
	fields := x.replyFields(append([]h1.Field(nil), x.reply.fields...))
	checkAnswer(t, x, h1.AppendFields(nil, fields))
	for _, f := range x.reply.fields {
		if f.Name == "Location" && (strings.HasPrefix(f.Value, "//") || strings.HasPrefix(f.Value, "/\\")) {
			t.Errorf("%q leads to another host: %q", x.req.Target, f.Value)
		}
	}
}

// checkAnswer looks at the fields of an answer, which must be as many for who reads them.
func checkAnswer(t *testing.T, x *exchange, fields []byte) {
	t.Helper()
	if err := strictFields(string(fields)); err != nil {
		t.Errorf("the client gets %q: %v", fields, err)
	}
	head := "HTTP/1.1 200 OK\r\n" + string(fields) + "Content-Length: 0\r\n\r\n"
	if x.unbounded || bytes.Contains(bytes.ToLower(fields), []byte("content-length:")) || bytes.Contains(bytes.ToLower(fields), []byte("trailer:")) {
		return
	}
	in := bytes.NewReader([]byte(head))
	if _, err := http.ReadResponse(bufio.NewReader(in), nil); err != nil {
		t.Errorf("the client gets %q: %v", fields, err)
	}
}
