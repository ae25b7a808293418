package lb

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// statusBackend answers with a status, "first" and what the request has brought, by HTTP/1.1 or
// HTTP/2, and counts requests.
func statusBackend(t *testing.T, two bool, status int, content string) (Backend, *atomic.Int32) {
	asked := new(atomic.Int32)
	f := func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		got, _ := io.ReadAll(r.Body)
		w.Header()["Content-Type"] = nil
		w.WriteHeader(status)
		io.WriteString(w, content+string(got))
	}
	if two {
		return webBackend2(t, false, f), asked
	}
	return webBackend(t, f), asked
}

// TestRetryStatuses: for a chosen status another backend is asked, as with nginx's
// proxy_next_upstream, and the client gets the response as it came where there is none.
func TestRetryStatuses(t *testing.T) {
	chosen := []int{403, 404, 429, 500, 503}
	for _, tt := range []struct {
		name     string
		methods  string
		statuses [2]int // of the first backend, and of the second one; 0: there is none
		rules    Rules
		tries    int
		want     string
		second   bool // is asked
		failures uint64
	}{
		{"not chosen", "GET", [2]int{502, 200}, Rules{RetryStatuses: chosen}, 0, "502 first", false, 0},
		{"none chosen", "GET", [2]int{503, 200}, Rules{}, 0, "503 first", false, 0},
		{"500", "GET HEAD PUT DELETE OPTIONS", [2]int{500, 200}, Rules{RetryStatuses: chosen}, 0, "200 second", true, 1},
		{"503", "GET PUT", [2]int{503, 200}, Rules{RetryStatuses: chosen}, 0, "200 second", true, 1},
		{"429", "GET PUT", [2]int{429, 200}, Rules{RetryStatuses: chosen}, 0, "200 second", true, 1},
		{"404 is no failure", "GET PUT", [2]int{404, 200}, Rules{RetryStatuses: chosen}, 0, "200 second", true, 0},
		{"403 is no failure", "GET", [2]int{403, 200}, Rules{RetryStatuses: chosen}, 0, "200 second", true, 0},
		{"both", "GET", [2]int{503, 500}, Rules{RetryStatuses: chosen}, 0, "500 second", true, 1},
		{"not repeated, but a failure", "POST PATCH LOCK", [2]int{503, 200}, Rules{RetryStatuses: chosen}, 0, "503 first", false, 1},
		{"not repeated, and no failure", "POST", [2]int{404, 200}, Rules{RetryStatuses: chosen}, 0, "404 first", false, 0},
		{"non-idempotent by option", "POST PATCH LOCK", [2]int{503, 200}, Rules{RetryStatuses: chosen, RetryNonIdempotent: true}, 0, "200 second", true, 1},
		{"no other backend", "GET POST", [2]int{503, 0}, Rules{RetryStatuses: chosen}, 0, "503 first", false, 1},
		{"one try", "GET", [2]int{503, 200}, Rules{RetryStatuses: chosen}, 1, "503 first", false, 1},
	} {
		for _, front := range trapFronts() {
			for _, two := range []bool{false, true} {
				to := map[bool]string{false: ", backends of HTTP/1.1", true: ", backends of HTTP/2"}[two]
				t.Run(tt.name+"/"+front.name+to, func(t *testing.T) {
					for method := range strings.FieldsSeq(tt.methods) {
						cfg := HandlerConfig{Rules: tt.rules, Tries: tt.tries}
						if two {
							cfg.BackendProtocol = BackendHTTP2
						}
						var bs []Backend
						var asked [2]*atomic.Int32
						for i, status := range tt.statuses {
							if status != 0 {
								var b Backend
								b, asked[i] = statusBackend(t, two, status, []string{"first", "second"}[i])
								bs = append(bs, b)
							}
						}
						s := front.serve(t, cfg, bs...)
						content, want := "abc", tt.want+"abc"
						switch method {
						case "GET":
							content, want = "", tt.want
						case "HEAD":
							content, want = "", strings.Fields(tt.want)[0]
						}
						got := strings.Replace(s.ask(t, method, content), " length=6", "", 1)
						if !strings.HasPrefix(want, "200") && s.c == nil && s.client == nil {
							t.Errorf("%s: the connection ends with %s", method, got)
						}
						// Our own pages and bodies of errors have none here: see described.
						if got != want && got != strings.Fields(want)[0] {
							t.Errorf("%s: %q, want %q", method, got, want)
						}
						if asked[0].Load() != 1 || asked[1] != nil && (asked[1].Load() == 1) != tt.second {
							t.Errorf("%s: the backends were asked %d and %d times", method, asked[0].Load(), asked[1].Load())
						}
						waitFor(t, "the end", func() bool { return s.pool.Status().Backends[0].Active == 0 })
						if st := s.pool.Status().Backends[0]; st.Failures != tt.failures {
							t.Errorf("%s: %d failures, want %d", method, st.Failures, tt.failures)
						}
					}
				})
			}
		}
	}
}

// TestRetryBudget: of the requests that a backend has seen, no more than the budget have another
// attempt, a reserve apart; those that no backend has seen all have one.
func TestRetryBudget(t *testing.T) {
	for _, tt := range []struct {
		name   string
		bad    func(*testing.T) Backend
		budget int
		least  int // attempts in vain of 300 requests
		most   int
	}{
		{"statuses", func(t *testing.T) Backend { b, _ := statusBackend(t, false, 503, ""); return b }, 0, retryReserve, retryReserve + 1},
		{"silent ends", func(t *testing.T) Backend { return rawBackend(t, says()) }, 0, retryReserve, retryReserve + 1},
		{"half of the requests", func(t *testing.T) Backend { return rawBackend(t, says()) }, 50, 140, 200},
		{"no bound", func(t *testing.T) Backend { return rawBackend(t, says()) }, -1, 300, 300},
		{"refused connections", closedBackend, 0, 300, 300},
	} {
		for _, front := range trapFronts() {
			t.Run(tt.name+"/"+front.name, func(t *testing.T) {
				good := webBackend(t, name("ok"))
				good.Backup = true // the bad one comes first for each request
				pool := newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{tt.bad(t), good}})
				s := front.serve(t, HandlerConfig{Pool: pool, Rules: Rules{RetryBudget: tt.budget, RetryStatuses: []int{503}}})
				start := time.Now()
				served := 0
				for range 300 {
					if s.ask(t, "GET", "") == "200 ok" {
						served++
					}
				}
				slow := time.Since(start) > (retryWindow-1)*time.Second // more are allowed then
				if served < tt.least || served > tt.most && !slow {
					t.Errorf("%d requests were served by another backend, want %d to %d", served, tt.least, tt.most)
				}
			})
		}
	}
}

// TestRetryBudgetCounts: the budget is a part of the requests of the last seconds, whenever they
// came, and there is a reserve.
func TestRetryBudgetCounts(t *testing.T) {
	var b retryBudget
	var accepted atomic.Uint64
	now := time.Unix(1_000_000, 0)
	requests := func(n uint64) { b.note(now, &accepted); accepted.Add(n) }
	spent := func(percent int) (n int) {
		for b.spend(now, accepted.Load(), percent) {
			n++
		}
		return n
	}
	var got []int
	for _, step := range []struct {
		after    time.Duration
		requests uint64
	}{
		{0, 50}, {time.Second, 5000}, {8 * time.Second, 0}, {time.Second, 0}, {time.Second, 0}, {time.Hour, 20_000}, {5 * time.Second, 10_000}, {-time.Minute, 10},
	} {
		now = now.Add(step.after)
		requests(step.requests)
		got = append(got, spent(10))
	}
	// A reserve of 100; a tenth of 5050 less that; nothing; the first second is gone, and then
	// the one that had most; a tenth of 20000; a tenth of 10000 more; a clock that was set back.
	if want := []int{100, 405, 0, 95, 5, 2000, 1000, 100}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestRetryBudgetStays: Reconfigure does not give the budget anew.
func TestRetryBudgetStays(t *testing.T) {
	good := webBackend(t, name("ok"))
	good.Backup = true
	cfg := HandlerConfig{Pool: newPool(t, PoolConfig{MaxFails: -1, Backends: []Backend{rawBackend(t, says()), good}})}
	s, h := front(t, cfg)
	site := siteAt(t, s.Listener.Addr().String(), h.pool())
	start, served := time.Now(), 0
	for i := range 2 * retryReserve {
		if i%10 == 0 {
			if err := h.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
		}
		if site.ask(t, "GET", "") == "200 ok" {
			served++
		}
	}
	if served < retryReserve || served > retryReserve+1 && time.Since(start) < (retryWindow-1)*time.Second {
		t.Errorf("%d requests were served by another backend, want %d", served, retryReserve)
	}
}
