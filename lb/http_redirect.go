package lb

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// Redirect sends clients elsewhere. The zero value sends nobody.
type Redirect struct {
	// Location is where a client is sent: a URL, or a path, with the variables of
	// RequestHeaders, and ${1} to ${9}, or $1 to $9: what the groups of the regular expression
	// have matched by which the request has its route. RedirectHTTPS stands for the same URL with https,
	// and leaves requests alone that have come by TLS, or of which a trusted proxy says so.
	Location string
	// Status is 301, 302, 303, 307 or 308. Default: 301 with RedirectHTTPS, else 302, as of
	// nginx's return.
	Status int
}

// RedirectHTTPS is a Location.
const RedirectHTTPS = "https"

// httpsLocation is what it stands for.
const httpsLocation = "https://${host}${uri}"

// redirects are the statuses of a Redirect.
var redirects = []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}

func (r Redirect) validate() error {
	_, err := compileTemplate(r.Location, inAnswers)
	return errors.Join(
		field.In("Redirect.Location", err),
		field.If(!validHeader("Location", r.Location), "Redirect.Location", "%q: want a URL or a path, without control characters", r.Location),
		field.If(r.Status != 0 && r.Location == "", "Redirect.Status", "%d: does nothing without Location: leave it out", r.Status),
		field.If(r.Status != 0 && !slices.Contains(redirects, r.Status), "Redirect.Status", "%d: want 301, 302, 303, 307 or 308", r.Status))
}

// redirectRule is a Redirect that is ready for use.
type redirectRule struct {
	status   int
	location template
	https    bool // it is for requests without TLS only
	literal  bool // the location begins with two slashes: another host
}

func newRedirectRule(r Redirect) *redirectRule {
	if r.Location == "" {
		return nil
	}
	rule := &redirectRule{status: cmp.Or(r.Status, http.StatusFound), literal: strings.HasPrefix(r.Location, "//")}
	if r.Location == RedirectHTTPS {
		rule.status, rule.https = cmp.Or(r.Status, http.StatusMovedPermanently), true
		r.Location = httpsLocation
	}
	rule.location, _ = compileTemplate(r.Location, inAnswers) // valid
	return rule
}

// applies reports whether a request is sent elsewhere.
func (r *redirectRule) applies(x *exchange) bool { return r != nil && !(r.https && x.cameSecurely()) }

// cameSecurely reports whether the client has come by TLS, maybe to a proxy that is trusted.
func (x *exchange) cameSecurely() bool {
	x.options = readOptions(x.options[:0], x.req.Fields, x.req.Has) // which are not passed, and say nothing
	return x.from.secure != nil || x.trusted && holds(x.req.Has, h1.XForwardedProto) && strings.EqualFold(x.firstPassed(h1.XForwardedProto), "https")
}

// redirect makes the reply.
func (x *exchange) redirect(r *redirectRule) verdict {
	location := r.location.value(x)
	if !r.literal {
		location = onThisHost(location)
	}
	v := x.answerWith(r.status, "text/plain; charset=utf-8", nil)
	_, x.reply.content = errorPage(r.status)
	x.reply.fields = append(x.reply.fields, h1.Field{Name: "Location", Value: location})
	return v
}

// onThisHost returns a location without what would make another host of the beginning of its
// path. A path of two slashes or more would lead to one (RFC 3986 §4.2), which the client, or
// whoever has made its link, would choose. A browser takes \ for /.
func onThisHost(location string) string {
	for len(location) > 1 && location[0] == '/' && (location[1] == '/' || location[1] == '\\') {
		location = location[1:]
		if location[0] == '\\' {
			location = "/" + strings.TrimLeft(location, `\/`)
		}
	}
	return location
}

// Answer is an answer that stands in the configuration. The zero value is none.
type Answer struct {
	// Status is 200 to 599. Without one there is no rule. 444 closes the connection without an
	// answer, of HTTP/2 the stream alone, as nginx does; a Record has that status.
	Status int
	// Type is the Content-Type. Default text/plain; charset=utf-8.
	Type string
	// Content is the body, with variables as in a Redirect. They are not escaped for HTML.
	Content string
}

// statusClosed is nginx's status of requests that it answers by closing the connection.
const statusClosed = 444

// maxAnswer bounds the content of an Answer.
const maxAnswer = 64 << 10

func (a Answer) validate() error {
	_, err := compileTemplate(a.Content, inAnswers)
	return errors.Join(
		field.In("Answer.Content", err),
		field.If(len(a.Content) > maxAnswer, "Answer.Content", "%d bytes: want no more than %d", len(a.Content), maxAnswer),
		field.If(!validHeader("Content-Type", a.Type), "Answer.Type", "%q: want a media type such as text/html", a.Type),
		field.If(a.Status == statusClosed && (a.Type != "" || a.Content != ""), "Answer.Status", "444: closes the connection without an answer: want another, or no type and content"),
		field.If(a.Status == 0 && a != Answer{}, "Answer.Status", "none: want one, such as 200"),
		field.Between("Answer.Status", cmp.Or(a.Status, http.StatusOK), 200, 599))
}

// answerRule is an Answer that is ready for use.
type answerRule struct {
	status  int
	kind    string
	content template
}

func newAnswerRule(a Answer) *answerRule {
	if a.Status == 0 {
		return nil
	}
	rule := &answerRule{status: a.Status, kind: cmp.Or(a.Type, "text/plain; charset=utf-8")}
	rule.content, _ = compileTemplate(a.Content, inAnswers) // valid
	return rule
}

// answerWith makes a reply in order.
func (x *exchange) answerWith(status int, kind string, content []byte) verdict {
	x.reply = reply{status: status, kind: kind, content: content, fields: x.reply.fields[:0]}
	return answerHere
}
