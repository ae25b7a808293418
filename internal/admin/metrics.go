package admin

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/havip/havip/internal/report"
)

// metrics makes the answers to GET /metrics: the node's status in the text format of
// Prometheus.
//
// A scrape has to cost next to nothing: a node that sends an advertisement each 10 ms may
// have one core. So the text is made of the status at once, without a registry, which has
// an object and a check for each sample. That costs a tenth, and what a registry enforces
// tests do. For the same reason there is the one format, which every scraper takes, and it
// is not compressed: over loopback and in a LAN that would cost more than it saves.
type metrics struct {
	node    Node
	process processMetrics
	sheets  sync.Pool // of *sheet
}

func newMetrics(n Node) *metrics {
	m := &metrics{node: n}
	m.process.registry = prometheus.NewRegistry()
	m.process.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// fill makes an exposition. Call release when its text is not needed any more.
func (m *metrics) fill() (s *sheet, release func()) {
	s, _ = m.sheets.Get().(*sheet)
	if s == nil {
		s = new(sheet)
	}
	status := m.node.Status()
	s.addNode(&status.Node, m.node.Events().Counts())
	s.addRouters(status.Routers)
	s.addChecks(status.Checks)
	s.addServices(status.Services)
	s.addPools(status.Services)
	s.addAlarms(status.Alarms)
	s.text = append(s.text, m.process.text()...)
	return s, func() {
		s.reset()
		m.sheets.Put(s)
	}
}

// serveMetrics answers GET /metrics. Nobody waits for a scraper to take its answer.
func (s *Server) serveMetrics(c *call) error {
	done, err := s.turn(c)
	if err != nil {
		return err
	}
	sheet, release := s.metrics.fill()
	defer release()
	done()
	return c.send(http.StatusOK, textFormat, sheet.text)
}

// textFormat is the type of the answers.
var textFormat = string(expfmt.NewFormat(expfmt.TypeTextPlain))

// processMetrics are the figures of the process and of Go's runtime. They come from files
// of /proc, whose reading costs more than all else of a scrape: no more often than once in
// processAge.
type processMetrics struct {
	registry *prometheus.Registry

	mu     sync.Mutex // guards what follows
	at     time.Time
	latest []byte // is never changed
}

// processAge is how old the figures of the process may be.
const processAge = time.Second

// text returns the figures. What cannot be found out is left out.
func (m *processMetrics) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.latest != nil && now.Sub(m.at) < processAge {
		return m.latest
	}
	families, _ := m.registry.Gather()
	var b bytes.Buffer
	for _, f := range families {
		_, _ = expfmt.MetricFamilyToText(&b, f)
	}
	m.at, m.latest = now, b.Bytes()
	return m.latest
}

// boolean is the value of a condition.
func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp is the value of a time: seconds since 1970. A time that is not known has none.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return none
	}
	return float64(t.UnixMicro()) / 1e6
}

// seconds is the value of a duration.
func seconds(s report.Seconds) float64 { return time.Duration(s).Seconds() }
