package admin

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/havip/havip/internal/report"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// pageKinds are the kinds of events, by which the browser gets them as they come.
var pageKinds = []string{
	report.KindTransition, report.KindFault, report.KindAddresses, report.KindSplit, report.KindConflict, report.KindDiscard, report.KindCheck,
	report.KindBackend, report.KindPool, report.KindService, report.KindCertificate, report.KindReload, report.KindControl, report.KindDaemon,
	report.KindAlarm, report.KindOther,
}

// pageState is what the page draws. The browser asks for it again and again.
type pageState struct {
	Status  *report.Status `json:"status"`
	History historyView    `json:"history"`
	Steers  bool           `json:"steers"` // who looks may steer
}

// pageStart is what the page begins with.
type pageStart struct {
	pageState
	Events  []report.Event `json:"events"`
	Kinds   []string       `json:"kinds"`
	Login   bool           `json:"login"`   // there is a token to log in with
	Session bool           `json:"session"` // and it was used
	CSRF    string         `json:"csrf,omitempty"`
}

// pageFew is up to how many backends of a pool are shown at once. Larger pools are folded
// by the page, and opened by the reader.
const pageFew = 30

// page is the status page and what feeds it.
type page struct {
	node    Node
	history *history
}

func newPage(node Node) *page { return &page{node, newHistory()} }

// state collects what is drawn. open are the pools that the reader has opened, as
// service/route.
func (p *page) state(open []string, steers bool) pageState {
	s := p.node.Status()
	sizes := map[string]int{}
	for _, service := range s.Services {
		for _, pool := range service.Pools {
			sizes[service.Name+"/"+pool.Route] = len(pool.Backends)
		}
	}
	shown := func(service, route string, b *report.Backend) bool {
		key := service + "/" + route
		return sizes[key] <= pageFew || slices.Contains(open, key) || b.State != "up" && b.State != "backup"
	}
	return pageState{s, p.history.view(s, shown), steers}
}

// sample takes a sample for the series. The server calls it every historyStep.
func (p *page) sample() { p.history.add(p.node.Status()) }

// render makes the page, and its Content-Security-Policy. Nothing in it comes from
// elsewhere, and no script runs but its own: the nonce is new for each answer.
func (p *page) render(a accessBody) (text []byte, policy string, err error) {
	nonce := rand.Text()
	events, _, _ := p.node.Events().After(0)
	start := pageStart{p.state(nil, a.Steers), events, pageKinds, a.Login, a.CSRF != "", a.CSRF}
	policy = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'nonce-" + nonce +
		"'; script-src 'nonce-" + nonce + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	var b bytes.Buffer
	err = pageTemplate.Execute(&b, struct {
		Host, Nonce string
		Start       pageStart
	}{start.Status.Node.Host, nonce, start})
	return b.Bytes(), policy, err
}

// servePage answers with the page.
func (s *Server) servePage(c *call) error {
	done, err := s.turn(c)
	if err != nil {
		return err
	}
	text, policy, err := s.page.render(s.accessBody(c))
	done()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Security-Policy", policy)
	return c.send(http.StatusOK, "text/html; charset=utf-8", text)
}

// answerPage is what the page asks for again and again.
func (s *Server) answerPage(c *call) (any, error) {
	if err := c.wantQuery("open"); err != nil {
		return nil, err
	}
	return s.page.state(c.r.URL.Query()["open"], c.by.steers), nil
}

// sampleEvery takes samples until done is closed.
func (p *page) sampleEvery(done <-chan struct{}) {
	tick := time.NewTicker(historyStep)
	defer tick.Stop()
	for p.sample(); ; p.sample() {
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
