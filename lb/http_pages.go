package lb

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// Page is an answer in the place of the line of text that a Handler answers with by itself.
type Page struct {
	// File is where Content comes from: see [HandlerConfig.ReadFiles]. Empty: Content is
	// given.
	File string
	// Content is what the client gets, up to 1 MiB.
	Content []byte
	// ContentType of Content. Default "text/html; charset=utf-8".
	ContentType string
	// Status that the client gets: 200, or 400 to 599. Default: the one that the page is for.
	Status int
}

// ErrorPage is a page for some statuses.
type ErrorPage struct {
	// Statuses that the page is for, 400 to 599. Required.
	Statuses []int
	Page
}

// maxPage bounds the content of a page, which is in memory.
const maxPage = 1 << 20

// isNone reports whether p answers nothing.
func (p *Page) isNone() bool { return p == nil || p.File == "" && len(p.Content) == 0 }

// validate returns what is wrong with a page.
func (p *Page) validate() error {
	if p == nil {
		return nil
	}
	_, _, err := mime.ParseMediaType(cmp.Or(p.ContentType, pageType))
	return errors.Join(
		field.If(p.File != "" && p.Content == nil, "Content", "none: want what is in File, see ReadFiles"),
		field.If(len(p.Content) > maxPage, "Content", "%d bytes: want at most %d", len(p.Content), maxPage),
		field.If(err != nil || !validHeader("Content-Type", p.ContentType), "ContentType", "%q: want a type such as text/html", p.ContentType),
		field.If(p.Status != 0 && p.Status != http.StatusOK && !isErrorStatus(p.Status), "Status", "%d: want 200, or 400 to 599", p.Status))
}

func isErrorStatus(status int) bool { return status >= 400 && status <= 599 }

// validatePages returns what is wrong with the pages of r.
func (r *Rules) validatePages() error {
	errs := []error{
		field.In("Sorry", r.Sorry.validate()), field.In("MaintenancePage", r.MaintenancePage.validate()),
		field.Between("RetryAfter", r.RetryAfter, math.MinInt64, 30*day),
	}
	seen := make(map[int]bool)
	for i := range r.ErrorPages {
		p := &r.ErrorPages[i]
		at := fmt.Sprintf("ErrorPages[%d]", i)
		errs = append(errs,
			field.In(at, p.validate()),
			field.If(p.isNone(), at, "none: want content, or a file"),
			field.If(len(p.Statuses) == 0, at+".Statuses", "none: want some, such as 502"))
		for _, s := range p.Statuses {
			errs = append(errs,
				field.If(!isErrorStatus(s), at+".Statuses", "%d: want 400 to 599", s),
				field.If(seen[s], at+".Statuses", "%d: want one page for a status", s))
			seen[s] = true
		}
	}
	return errors.Join(errs...)
}

// pageType is the default of Page.ContentType.
const pageType = "text/html; charset=utf-8"

// pages are the Pages of Rules, as they are needed for requests.
type pages struct {
	errors             map[int]*page
	sorry, maintenance *page
	retryAfter         string // empty: nothing is said
	intercept          bool
}

type page struct {
	status  int // 0: the one that it is for
	kind    string
	content []byte
}

// compilePages returns the pages of valid Rules. An ErrorHandler answers instead of pages.
func compilePages(cfg *HandlerConfig) (p pages) {
	if cfg.RetryAfter > 0 {
		p.retryAfter = strconv.FormatInt(int64(math.Ceil(cfg.RetryAfter.Seconds())), 10)
	}
	if cfg.ErrorHandler != nil {
		return p
	}
	for i := range cfg.ErrorPages {
		if p.errors == nil {
			p.errors = make(map[int]*page)
		}
		one := cfg.ErrorPages[i].compile()
		for _, status := range cfg.ErrorPages[i].Statuses {
			p.errors[status] = one
		}
	}
	p.sorry, p.maintenance = cfg.Sorry.compile(), cfg.MaintenancePage.compile()
	p.intercept = cfg.InterceptErrors && len(p.errors) > 0
	return p
}

func (p *Page) compile() *page {
	if p.isNone() {
		return nil
	}
	return &page{status: p.Status, kind: cmp.Or(p.ContentType, pageType), content: p.Content}
}

// show makes a reply of a page; nil: the one for the status, or a line of text.
func (x *exchange) show(p *page, status int) {
	if p == nil {
		p = x.cfg.pages.errors[status]
	}
	r := &x.reply
	if p == nil {
		r.status = status
		r.kind, r.content = errorPage(status)
		return
	}
	r.status, r.kind, r.content = cmp.Or(p.status, status), p.kind, p.content
}

// showError makes a reply of an error. err says more than the status; nil: nothing does.
func (x *exchange) showError(status int, err error) {
	x.reply = reply{fields: x.reply.fields[:0]}
	if p := x.cfg.pages.sorry; p != nil && status == http.StatusServiceUnavailable && errors.Is(err, ErrNoBackend) {
		x.show(p, status)
		x.askToRetry()
		return
	}
	x.show(nil, status)
}

// refuseForMaintenance answers instead of all backends.
func (x *exchange) refuseForMaintenance() verdict {
	x.refuse(http.StatusServiceUnavailable, "maintenance")
	x.show(x.cfg.pages.maintenance, http.StatusServiceUnavailable)
	x.askToRetry()
	return refuseHere
}

// askToRetry tells the client when to come again (RFC 9110 §10.2.3).
func (x *exchange) askToRetry() {
	if after := x.cfg.pages.retryAfter; after != "" {
		x.reply.fields = append(x.reply.fields, h1.Field{Name: "Retry-After", Value: after})
	}
}

// intercepts reports whether a page answers in the place of a backend's response.
func (x *exchange) intercepts(status int) bool {
	return x.cfg.pages.intercept && x.cfg.pages.errors[status] != nil
}

// intercept makes a reply in the place of a response that intercepts is true for. Of its
// fields only a challenge is kept, as nginx does: without one a 401 is none (RFC 9110 §15.5.2).
func (x *exchange) intercept(res *h1.Response) {
	x.record.Status = 0 // it is the page's
	x.showError(res.Status, nil)
	if x.reply.status != http.StatusUnauthorized {
		return
	}
	for _, f := range res.Fields {
		if f.ID == h1.WWWAuthenticate {
			x.reply.fields = append(x.reply.fields, h1.Field{Name: f.Name, Value: strings.Clone(f.Value), ID: f.ID})
		}
	}
}

// defaultRetryAfter is the default of Rules.RetryAfter.
const defaultRetryAfter = time.Minute
