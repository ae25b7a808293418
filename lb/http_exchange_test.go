package lb

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// testOrigin is the connection of a client that speaks to 192.0.2.2:80.
var testOrigin = newRequestOrigin(netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("192.0.2.2:80"), nil)

// parsedRequest returns the head of a request.
func parsedRequest(t testing.TB, head string) *h1.Request {
	t.Helper()
	req := new(h1.Request)
	if n, err := req.Parse([]byte(head), h1.Limits{}); n != len(head) || err != nil {
		t.Fatalf("%q: %d bytes, %v", head, n, err)
	}
	return req
}

// parsedResponse returns the head of a response to a request with a method.
func parsedResponse(t testing.TB, method, head string) *h1.Response {
	t.Helper()
	res := new(h1.Response)
	if n, err := res.Parse([]byte(head), method, h1.Limits{}); n != len(head) || err != nil {
		t.Fatalf("%q: %d bytes, %v", head, n, err)
	}
	return res
}

// testExchange returns an exchange for a request from testOrigin.
func testExchange(t testing.TB, cfg HandlerConfig, head string) *exchange {
	t.Helper()
	if cfg.Pool == nil {
		cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: []Backend{{Name: "app", Address: "192.0.2.3:80"}}})
	}
	x := new(exchange)
	x.open(newHandlerSettings(cfg), new(counters), &testOrigin, parsedRequest(t, head), time.Now())
	return x
}

// usualRequest and usualResponse are a browser's and an application's.
const (
	usualRequest = "GET /static/app.css?v=3 HTTP/1.1\r\nHost: www.example.org\r\nConnection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
		"Accept: text/css,*/*;q=0.1\r\nReferer: https://www.example.org/\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\n" +
		"Cookie: session=0123456789abcdef\r\nX-Forwarded-For: 198.51.100.7\r\nIf-None-Match: \"a\"\r\n\r\n"
	usualResponse = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 28 Nov 2026 03:00:00 GMT\r\nContent-Type: text/css\r\nContent-Length: 5\r\n" +
		"Connection: keep-alive\r\nLast-Modified: Fri, 27 Nov 2026 03:00:00 GMT\r\nETag: \"b\"\r\nCache-Control: max-age=60\r\n\r\n"
)

// usualExchange serves the usual request again and again.
type usualExchange struct {
	exchange
	settings *handlerSettings
	counters counters
	request  *h1.Request
	response *h1.Response
	out      []byte
}

func newUsualExchange(t testing.TB, cfg HandlerConfig) *usualExchange {
	return &usualExchange{
		settings: newHandlerSettings(cfg), request: parsedRequest(t, usualRequest), response: parsedResponse(t, "GET", usualResponse),
	}
}

// serve makes all decisions about a request that a backend answers.
func (x *usualExchange) serve(t testing.TB) {
	now := time.Now()
	x.open(x.settings, &x.counters, &testOrigin, x.request, now)
	if x.refusal() != 0 {
		t.Fatal("refused")
	}
	if x.decide() != passOn {
		t.Fatal("answered")
	}
	x.prepare()
	pick, err := x.cfg.Pool.pickInTurn(&x.flow)
	if err != nil {
		t.Fatal(err)
	}
	x.begin(pick)
	x.out = x.appendRequest(x.out[:0], false, false)
	if err := x.checkResponse(x.response); err != nil || x.keptFor() != idleFor {
		t.Fatal(err)
	}
	x.responded(x.response, false)
	x.out = h1.AppendFields(x.out, x.responseFields(x.response, testOrigin.local.Addr()))
	x.succeeded(now)
	x.close(now)
}

// TestExchangeDoesNotAllocate: what most requests need costs no memory beyond what an exchange
// keeps from one to the next.
func TestExchangeDoesNotAllocate(t *testing.T) {
	pool := newPool(t, PoolConfig{Name: "web", Backends: []Backend{{Name: "app", Address: "192.0.2.3:80"}}})
	for name, cfg := range map[string]HandlerConfig{
		"plain":  {Pool: pool},
		"record": {Pool: pool, Record: func(r Record) { _, _ = r.HTTP.Header("Referer") }},
		"headers": {Pool: pool, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			RequestHeaders:  map[string]string{"Host": "app", "X-Client": "${client} at ${local}", "X_Removed": ""},
			ResponseHeaders: map[string]string{"X-Backend": "${backend}", "X-Source": "${source}", "Server": ""}},
	} {
		x := newUsualExchange(t, cfg)
		if got := testing.AllocsPerRun(100, func() { x.serve(t) }); got > 0 {
			t.Errorf("%s: %v allocations a request", name, got)
		}
		if st := x.counters.stats(); st.Active != 0 || st.Accepted != 101 || pool.Status().Backends[0].Active != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestRequestForBackends: fields keep their case and order. Those that are changed stay in
// their place, and new ones come last.
func TestRequestForBackends(t *testing.T) {
	x := testExchange(t, HandlerConfig{RequestHeaders: map[string]string{"x-own": "${client}"}},
		"GET /a%2Fb HTTP/1.1\r\naccept: 1\r\nHOST: x\r\nx-forwarded-for: 198.51.100.7\r\nX-Own: 2\r\nCoNnection: te, X-Mine\r\nX-Mine: 1\r\nsoapAction: 3\r\nte: trailers\r\n\r\n")
	if status := x.refusal(); status != 0 {
		t.Fatal(status)
	}
	x.prepare()
	want := "GET /a%2Fb HTTP/1.1\r\nHost: x\r\naccept: 1\r\nx-forwarded-for: 198.51.100.7, 192.0.2.1\r\nCoNnection: TE\r\nsoapAction: 3\r\nte: trailers\r\n" +
		"X-Forwarded-Host: x\r\nX-Forwarded-Proto: http\r\nX-Real-IP: 192.0.2.1\r\nx-own: 192.0.2.1\r\n\r\n"
	if got := string(x.appendRequest(nil, false, false)); got != want {
		t.Errorf("%q, want %q", strings.ReplaceAll(got, "\r\n", "\n"), strings.ReplaceAll(want, "\r\n", "\n"))
	}
	if x.flow.Key != "/a/b" {
		t.Errorf("key %q", x.flow.Key)
	}
}

// BenchmarkExchange measures what is decided about a usual request.
func BenchmarkExchange(b *testing.B) {
	pool := newPool(b, PoolConfig{Name: "web", Backends: []Backend{{Name: "app", Address: "192.0.2.3:80"}}})
	usual := newUsualExchange(b, HandlerConfig{Pool: pool})
	b.ReportAllocs()
	for b.Loop() {
		usual.serve(b)
	}
}
