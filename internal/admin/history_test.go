package admin

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

// busy is a status in which service web and its backend have counted so much.
func busy(at time.Time, picks, failures, ended uint64, took time.Duration) *report.Status {
	return &report.Status{Node: report.Node{Time: at}, Services: []report.Service{{
		Name:    "web",
		Traffic: report.Traffic{Accepted: picks, Failed: failures, Ended: ended, Took: report.Seconds(took)},
		Pools: []report.Pool{{Backends: []report.Backend{{
			Name: "a", State: "up", Picks: picks, Failures: failures, Ended: ended, Took: report.Seconds(took)}}}},
	}}}
}

func TestHistoryOfABackend(t *testing.T) {
	began := time.Unix(1e9, 0)
	type sample struct {
		after                   time.Duration
		picks, failures, ended  uint64
		took                    time.Duration
		requests, errors, delay float32
	}
	for _, test := range []struct {
		claim   string
		samples []sample
	}{
		{"the first sample is no rate", []sample{{picks: 100}}},
		{"rates are those of a second", []sample{{picks: 100}, {after: 10 * time.Second, picks: 150, failures: 20, requests: 5, errors: 2}}},
		{"latency is the mean of what ended meanwhile", []sample{
			{ended: 10, took: time.Second}, {after: 10 * time.Second, ended: 14, took: 3 * time.Second, delay: 0.5}}},
		{"what did not end has no latency", []sample{{ended: 10, took: time.Second}, {after: 10 * time.Second, ended: 10, took: time.Second}}},
		{"a counter that begins anew gives no negative rate", []sample{{picks: 1000}, {after: 10 * time.Second, picks: 20, requests: 2}}},
	} {
		t.Run(test.claim, func(t *testing.T) {
			h, now := newHistory(), began
			var requests, errors, latency []float32
			for i, s := range test.samples {
				now = now.Add(s.after)
				last := busy(now, s.picks, s.failures, s.ended, s.took)
				h.add(last)
				if i > 0 {
					requests, errors, latency = append(requests, s.requests), append(errors, s.errors), append(latency, s.delay)
				}
				v := h.view(last, func(string, string, *report.Backend) bool { return true })
				for what, got := range map[string]seriesView{"backend": v.Backends["web//a"], "service": v.Services["web"]} {
					if !slices.Equal(got.Requests, requests) || !slices.Equal(got.Errors, errors) || !slices.Equal(got.Latency, latency) {
						t.Errorf("sample %d of the %s: %v, want %v %v %v", i, what, got, requests, errors, latency)
					}
				}
			}
		})
	}
}

// TestHistoryIsBounded: old samples go, and so do parts that are gone.
func TestHistoryIsBounded(t *testing.T) {
	h, now := newHistory(), time.Unix(1e9, 0)
	for i := range historySize + 20 {
		h.add(busy(now, uint64(i*i), 0, 0, 0))
		now = now.Add(historyStep)
	}
	got := h.backends["web//a"].requests
	if len(got) != historySize || got[historySize-1] <= got[0] {
		t.Errorf("%d samples from %v to %v, want the latest %d", len(got), got[0], got[len(got)-1], historySize)
	}
	h.add(&report.Status{Node: report.Node{Time: now}})
	if len(h.services)+len(h.backends) != 0 {
		t.Errorf("%d services and %d backends are remembered, but gone", len(h.services), len(h.backends))
	}
}

// TestHistoryShowsWhatIsAskedFor: backends that the page does not draw cost it nothing.
func TestHistoryShowsWhatIsAskedFor(t *testing.T) {
	h := newHistory()
	s := &report.Status{Services: []report.Service{{Name: "web", Pools: []report.Pool{{}}}}}
	for i := range 100 {
		s.Services[0].Pools[0].Backends = append(s.Services[0].Pools[0].Backends, report.Backend{Name: fmt.Sprint(i), State: "up"})
	}
	s.Services[0].Pools[0].Backends[7].State = "down"
	h.add(s)
	p := &page{history: h}
	p.node = statusNode{status: s}
	for _, test := range []struct {
		claim string
		open  []string
		want  int
	}{
		{"a large pool shows those that need somebody", nil, 1},
		{"an opened pool shows all", []string{"web/"}, 100},
		{"another pool that is open opens no further one", []string{"mail/"}, 1},
	} {
		if got := len(p.state(test.open, false).History.Backends); got != test.want {
			t.Errorf("%s: %d, want %d", test.claim, got, test.want)
		}
	}
}

// statusNode is a Node that has one status and its events.
type statusNode struct {
	Node
	status *report.Status
	ring   *report.Ring
}

func (n statusNode) Status() *report.Status { return n.status }
func (n statusNode) Events() *report.Ring   { return n.ring }
