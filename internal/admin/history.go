package admin

import (
	"sync"
	"time"

	"github.com/havip/havip/internal/report"
)

const (
	// historyStep is the time between two samples, and historySize how many are kept: the
	// page shows a quarter of an hour.
	historyStep = 10 * time.Second
	historySize = 90
)

// history keeps short series of what services and backends did, for the page. A browser
// that is opened at 3 a.m. sees what was before.
type history struct {
	mu       sync.Mutex // guards what follows; a leaf
	at       time.Time  // of the latest sample
	services map[string]*series
	backends map[string]*series // by service/backend
}

// series are the latest samples of one part, the latest last.
type series struct {
	last     counts
	requests []float32 // a second
	errors   []float32 // a second
	latency  []float32 // seconds, the mean of what ended meanwhile; 0: nothing ended
	seen     time.Time
}

// counts are the counters that rates are made of.
type counts struct {
	requests, errors, ended uint64
	took                    time.Duration // which those that ended took together
}

func newHistory() *history {
	return &history{services: map[string]*series{}, backends: map[string]*series{}}
}

// add takes a sample. Parts that are gone are forgotten.
func (h *history) add(s *report.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := s.Node.Time
	passed := now.Sub(h.at)
	h.at = now
	for _, service := range s.Services {
		t := service.Traffic
		h.services[service.Name] = h.services[service.Name].next(now, passed,
			counts{t.Accepted, t.Failed, t.Ended, time.Duration(t.Took)})
		for _, p := range service.Pools {
			for _, b := range p.Backends {
				key := backendKey(service.Name, p.Route, b.Name)
				h.backends[key] = h.backends[key].next(now, passed, counts{b.Picks, b.Failures, b.Ended, time.Duration(b.Took)})
			}
		}
	}
	for _, all := range []map[string]*series{h.services, h.backends} {
		for key, one := range all {
			if !one.seen.Equal(now) {
				delete(all, key)
			}
		}
	}
}

// backendKey names a backend, as the page does.
func backendKey(service, route, backend string) string {
	return service + "/" + route + "/" + backend
}

// next takes in one sample. A part that is new, nil, has no rate yet.
func (s *series) next(now time.Time, passed time.Duration, c counts) *series {
	if s == nil {
		return &series{last: c, seen: now}
	}
	if passed > 0 {
		s.requests = push(s.requests, rate(s.last.requests, c.requests, passed))
		s.errors = push(s.errors, rate(s.last.errors, c.errors, passed))
		latency := float32(0)
		if n := c.ended - s.last.ended; c.ended > s.last.ended && c.took > s.last.took {
			latency = float32((c.took - s.last.took).Seconds() / float64(n))
		}
		s.latency = push(s.latency, latency)
	}
	s.last, s.seen = c, now
	return s
}

// rate is that of a counter a second; one that fell was begun anew.
func rate(before, now uint64, passed time.Duration) float32 {
	if now < before {
		before = 0
	}
	return float32(float64(now-before) / passed.Seconds())
}

// push appends a value and forgets the oldest beyond historySize.
func push(list []float32, v float32) []float32 {
	if len(list) < historySize {
		return append(list, v)
	}
	copy(list, list[1:])
	list[len(list)-1] = v
	return list
}

// seriesView is a series for the page.
type seriesView struct {
	Requests []float32 `json:"requests"`
	Errors   []float32 `json:"errors"`
	Latency  []float32 `json:"latency"`
}

// historyView is what the page draws.
type historyView struct {
	Step     report.Seconds        `json:"step"`
	Services map[string]seriesView `json:"services"`
	Backends map[string]seriesView `json:"backends"`
}

// view returns the series of all services, and of the backends that shown selects.
func (h *history) view(s *report.Status, shown func(service, route string, b *report.Backend) bool) historyView {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := historyView{report.Seconds(historyStep), map[string]seriesView{}, map[string]seriesView{}}
	for _, service := range s.Services {
		if one := h.services[service.Name]; one != nil {
			v.Services[service.Name] = one.view()
		}
		for _, p := range service.Pools {
			for i := range p.Backends {
				key := backendKey(service.Name, p.Route, p.Backends[i].Name)
				if one := h.backends[key]; one != nil && shown(service.Name, p.Route, &p.Backends[i]) {
					v.Backends[key] = one.view()
				}
			}
		}
	}
	return v
}

// view copies: the next sample changes what s has.
func (s *series) view() seriesView {
	cloned := func(list []float32) []float32 { return append([]float32{}, list...) }
	return seriesView{cloned(s.requests), cloned(s.errors), cloned(s.latency)}
}
