package lb

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fromClient is a request of a client behind a proxy that is trusted.
func fromClient(target, client string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + client + "\r\n\r\n"
}

var localProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// TestRequestRate: what a client sends beyond the burst is refused until its rate has made up for
// that; other clients, and routes with a rate of their own, count for themselves. All of it goes on
// across Reconfigure.
func TestRequestRate(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			var asked atomic.Int32
			var reasons sync.Map
			b := webBackend(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
			cfg := HandlerConfig{
				Pool: newPool(t, PoolConfig{Backends: []Backend{b}}), TrustedProxies: localProxies,
				Record: func(r Record) { reasons.Store(r.Reason, true) },
				Rules:  Rules{RequestRate: 0.001, RequestBurst: 2},
				Routes: []Route{
					{Name: "own", Paths: []string{"/own"}, HandlerConfig: HandlerConfig{Rules: Rules{RequestBurst: 2}}},
					{Name: "same", Paths: []string{"/same"}},
					{Name: "free", Paths: []string{"/free"}, HandlerConfig: HandlerConfig{Rules: Rules{RequestRate: -1}}},
				}}
			s := front.serve(t, cfg)
			ask := func(target, client, want string) {
				t.Helper()
				got := strings.SplitN(s.askRaw(t, fromClient(target, client), "Retry-After"), "\n", 3)
				if got[0] != want || (got[1] == "Retry-After: -") != (want == "200") {
					t.Errorf("%s of %s: %q, want %s", target, client, got, want)
				}
			}
			for _, want := range []string{"200", "200", "429", "429"} {
				ask("/", "192.0.2.1", want)
				ask("/", "2001:db8::"+want, want) // hosts of one /64
			}
			ask("/same", "192.0.2.1", "429")
			ask("/same", "192.0.2.3", "200")
			ask("/", "192.0.2.3", "200")
			ask("/same", "192.0.2.3", "429")
			for _, want := range []string{"200", "200", "429"} {
				ask("/own", "192.0.2.1", want)
			}
			for range 5 {
				ask("/free", "192.0.2.1", "200")
			}
			ask("/", "192.0.2.2", "200")
			if n := asked.Load(); n != 14 {
				t.Errorf("the backend was asked %d times, want 14", n)
			}
			cfg.RequestsPerClient = 7
			cfg.Buffering = BufferingOff
			if err := s.h.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			ask("/", "192.0.2.1", "429")
			ask("/own", "192.0.2.1", "429")
			ask("/same", "192.0.2.1", "429")
			ask("/", "192.0.2.2", "200")
			cfg.Routes[0].RequestBurst, cfg.Routes[1].RequestBurst = 0, 2 // with the others, and for itself
			if err := s.h.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			ask("/own", "192.0.2.4", "200")
			ask("/", "192.0.2.4", "200")
			ask("/own", "192.0.2.4", "429")
			for _, want := range []string{"200", "200", "429"} {
				ask("/same", "192.0.2.1", want)
			}
			waitFor(t, "the reason", func() bool {
				_, is := reasons.Load("more requests than the client may send in this time")
				return is
			})
		})
	}
}

// TestRequestsPerClient: a client has no more requests under way than it may; each that ends
// makes room for another one.
func TestRequestsPerClient(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			begun, gate := make(chan struct{}, 10), make(chan struct{})
			b := webBackend(t, func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-gate })
			s := front.serve(t, HandlerConfig{TrustedProxies: localProxies, Rules: Rules{RequestsPerClient: 2}}, b)
			var asking sync.WaitGroup
			defer asking.Wait()
			served := func(client string) {
				asking.Go(func() {
					if got := s.askRaw(t, fromClient("/", client)); got != "200\n" {
						t.Errorf("%s: %q", client, got)
					}
				})
				<-begun
			}
			served("192.0.2.1")
			served("192.0.2.1")
			if got := s.askRaw(t, fromClient("/", "192.0.2.1"), "Retry-After"); !strings.HasPrefix(got, "429\nRetry-After: 1\n") {
				t.Errorf("a third one: %q", got)
			}
			served("192.0.2.2")
			for range 3 {
				gate <- struct{}{}
			}
			waitFor(t, "their ends", func() bool { return s.h.Stats().Active == 0 })
			served("192.0.2.1")
			served("192.0.2.1")
			close(gate)
		})
	}
}

// TestMaxURI: a target may have as many bytes, of which the query is a part.
func TestMaxURI(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{MaxURI: 10},
				Routes: []Route{{Name: "any", Paths: []string{"/any"}, HandlerConfig: HandlerConfig{Rules: Rules{MaxURI: -1}}}}}, webBackend(t, name("")))
			for target, want := range map[string]string{"/456789?ab": "200", "/456789?abc": "414", "/4567890ab": "200", "/%41%41%41%41": "414", "/any?456789abc": "200"} {
				if got := s.askRaw(t, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, want+"\n") {
					t.Errorf("%s: %q, want %s", target, got, want)
				}
			}
		})
	}
}

// TestLongURINeedsNoRoute: what no route allows is refused before regular expressions see it;
// between the bounds, the one of the route counts, and its other rules come first.
func TestLongURINeedsNoRoute(t *testing.T) {
	routes := []Route{
		{Name: "denied", Paths: []string{"~ a"}, HandlerConfig: HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}}},
		{Name: "more", Paths: []string{"~ b"}, HandlerConfig: HandlerConfig{Rules: Rules{MaxURI: 20}}},
	}
	unbounded := Route{Name: "free", Paths: []string{"/xyz"}, HandlerConfig: HandlerConfig{Rules: Rules{MaxURI: -1}}}
	long := strings.Repeat("0", 20)
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			for title, tt := range map[string]struct {
				routes []Route
				wants  map[string]string
			}{
				"all have a bound": {routes, map[string]string{
					"/a": "403 denied", "/a" + long[:18]: "403 denied", "/a" + long: "414 ", "/b" + long[:18]: "200 more", "/b" + long: "414 ", "/c" + long[:9]: "414 "}},
				"one has none": {append(slices.Clip(routes), unbounded), map[string]string{
					"/a" + long: "403 denied", "/b" + long: "414 more", "/xyz" + long: "200 free"}},
			} {
				records := make(chan Record, 1)
				s := front.serve(t, HandlerConfig{Rules: Rules{MaxURI: 10}, Routes: tt.routes, Record: func(r Record) { records <- r.Clone() }}, webBackend(t, name("")))
				for target, want := range tt.wants {
					got := s.askRaw(t, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
					r := nextRecord(t, records)
					if has := fmt.Sprint(r.Status, " ", r.HTTP.Route); has != want || !strings.HasPrefix(got, want[:3]) {
						t.Errorf("%s, %s: %q, record %q, want %q", title, target, got, has, want)
					}
				}
			}
		})
	}
}

// TestRequestsPerConnection: a connection ends in order with the request that is its last.
func TestRequestsPerConnection(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			backends := []Backend{webBackend(t, name("ok"))}
			cfg := HandlerConfig{Rules: Rules{RequestsPerConnection: 3}}
			var s *trapSite
			if strings.HasPrefix(front.name, "loops, HTTP") {
				s = front.serve(t, cfg, backends...)
			} else { // the server has to know its connections
				cfg.Pool = newPool(t, PoolConfig{Backends: backends})
				srv, _ := shell{HandlerConfig: cfg, tls: front.http2, tracked: true}.serve(t)
				s = siteAt(t, srv.Listener.Addr().String(), cfg.Pool)
				if front.http2 {
					s = &trapSite{url: srv.URL, client: srv.Client()}
				}
			}
			conns := make(map[string]bool)
			for i := range 6 {
				if s.client == nil {
					if got := s.ask(t, "GET", ""); got != "200 ok" || (s.c == nil) != (i%3 == 2) {
						t.Errorf("request %d: %q, the connection has ended: %v", i+1, got, s.c == nil)
					}
					continue
				}
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					GotConn: func(c httptrace.GotConnInfo) { conns[c.Conn.LocalAddr().String()] = true }})
				req, _ := http.NewRequestWithContext(ctx, "GET", s.url, nil)
				res, err := s.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if s.client != nil && len(conns) != 2 {
				t.Errorf("6 requests by %d connections, want 2", len(conns))
			}
		})
	}
}

// clients returns of how many clients c knows.
func (c *requestCounts) clients() (n int) {
	for i := range c.shards {
		n += len(c.shards[i].present) + len(c.shards[i].earlier)
	}
	return n
}

// TestRequestCountsAreBounded: any number of addresses takes no more than two generations, and
// drops no client that has requests under way; those that are idle go.
func TestRequestCountsAreBounded(t *testing.T) {
	rules := Rules{RequestRate: 0.001, RequestBurst: 5, RequestsPerClient: 2}
	c, now := newRequestCounts(&rules), time.Now()
	busy := netip.MustParseAddr("192.0.2.1")
	for range 2 {
		if _, reason := c.admit(&rules, busy, now); reason != "" {
			t.Fatal(reason)
		}
	}
	const most = 2 * (mostClients + 1) * requestShards
	for i := range 4 * most {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if _, reason := c.admit(&rules, a, now); reason != "" {
			t.Fatal(a, reason)
		}
		c.release(a)
	}
	if n := c.clients(); n > most || n < most/4 {
		t.Errorf("%d clients are known, want at most %d", n, most)
	}
	if _, reason := c.admit(&rules, busy, now); !strings.Contains(reason, "at once") {
		t.Errorf("a client with requests under way is forgotten: %q", reason)
	}
	c.release(busy)
	if _, reason := c.admit(&rules, busy, now); reason != "" {
		t.Error(reason)
	}
	for i := range 3 * requestShards * 100 { // later, a few come
		later := now.Add(time.Duration(1+i/(requestShards*100)) * 2 * time.Hour)
		c.admit(&rules, netip.AddrFrom4([4]byte{172, 16, byte(i >> 8 & 3), byte(i)}), later)
	}
	if n := c.clients(); n > 3000 {
		t.Errorf("%d clients are known long after most have left", n)
	}
}

// TestRequestCountsForget: without a rate nothing is left of a client that has no request.
func TestRequestCountsForget(t *testing.T) {
	rules := Rules{RequestsPerClient: 2}
	c := newRequestCounts(&rules)
	a := netip.MustParseAddr("192.0.2.1")
	for range 2 {
		c.admit(&rules, a, time.Now())
	}
	c.release(a)
	if n := c.clients(); n != 1 {
		t.Errorf("%d clients", n)
	}
	c.release(a)
	if n := c.clients(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// TestRequestRateRefills: the rate counts, whatever the order in which requests come.
func TestRequestRateRefills(t *testing.T) {
	rules := Rules{RequestRate: 2, RequestBurst: 2}
	c, start := newRequestCounts(&rules), time.Now()
	a := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		after time.Duration
		wait  int // 0: it is let through
	}{
		{0, 0}, {0, 0}, {0, 1}, {500 * time.Millisecond, 0}, {0, 1}, {600 * time.Millisecond, 1}, {time.Second, 0}, {time.Minute, 0}, {time.Minute, 0}, {time.Minute, 1},
	} {
		if wait, reason := c.admit(&rules, a, start.Add(tt.after)); wait != tt.wait || (reason == "") != (wait == 0) {
			t.Errorf("after %v: %d, %q; want %d", tt.after, wait, reason, tt.wait)
		}
	}
	allocs := testing.AllocsPerRun(100, func() { c.admit(&rules, a, start) })
	if allocs > 0 {
		t.Errorf("%v allocations for a client that is known", allocs)
	}
}

// TestRequestLimitsAreValidated: negative values are off where a route has to say so.
func TestRequestLimitsAreValidated(t *testing.T) {
	for _, tt := range []struct {
		rules Rules
		wrong string
	}{
		{Rules{RequestRate: -1, RequestsPerClient: -1, MaxURI: -1}, ""},
		{Rules{RequestRate: 0.5, RequestBurst: 1}, ""},
		{Rules{RequestRate: maxCount + 1}, "RequestRate"},
		{Rules{RequestBurst: -1}, "RequestBurst"},
		{Rules{RequestsPerClient: maxCount + 1}, "RequestsPerClient"},
		{Rules{RequestsPerConnection: -1}, "RequestsPerConnection"},
		{Rules{MaxURI: maxCount + 1}, "MaxURI"},
	} {
		if err := validateRequests(&tt.rules); (err != nil) != (tt.wrong != "") || err != nil && !strings.HasPrefix(err.Error(), tt.wrong+":") {
			t.Errorf("%v, want what is wrong with %q", err, tt.wrong)
		}
	}
}
