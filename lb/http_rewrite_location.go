package lb

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// LocationRewrite changes the URLs to which backends send clients: Location, and the URL of
// Refresh, as proxy_redirect of nginx. It is for backends that do not know under which path, or
// by which host, clients reach them.
type LocationRewrite struct {
	// Prefix is what a URL must begin with, with the variables of ResponseHeaders: /, or
	// http://internal:8080/. To takes its place, and the rest stays. One that ends within a
	// host, as http://internal does, is for that host alone, and not for internal.example.org.
	Prefix string
	// Regexp is a regular expression, in the place of a Prefix. Where it matches a URL, To takes
	// the place of the whole.
	Regexp string
	// To is a path, or a URL with a host: /app/, or https://${host}/. It has the variables of
	// ResponseHeaders, and with Regexp ${1} to ${9}, or $1 to $9: what the groups have matched.
	//
	// A path leads to the host that the client has asked, whatever follows: of several slashes
	// at the beginning one is left. A URL leads to its host: what is put in there, or follows
	// a URL that ends with its host, cannot end that. Where a To begins with a variable, or is a
	// scheme alone, as https://, what comes out must be a path, or have the host that the
	// backend's URL has. A URL of which another would come out, or which would have control
	// characters, is left as the backend sent it.
	To string
}

// inLocations are the variables of a To.
const inLocations = inResponses | inAnswers

// validateLocations returns what is wrong with a RewriteLocation.
func validateLocations(list []LocationRewrite) error {
	var errs []error
	for i, r := range list {
		errs = append(errs, field.In(fmt.Sprintf("RewriteLocation[%d]", i), r.validate()))
	}
	return errors.Join(errs...)
}

func (r LocationRewrite) validate() error {
	_, prefixErr := compileTemplate(r.Prefix, inResponses)
	re, err := compileRegexp(r.Regexp)
	errs := []error{
		field.In("Prefix", prefixErr), field.In("Regexp", err),
		field.If(r.Prefix == "" && r.Regexp == "", "Prefix", "none, and no Regexp: want one of both, such as /"),
		field.If(r.Prefix != "" && r.Regexp != "", "Prefix", "%q: does nothing beside Regexp: leave one of both out", r.Prefix),
		field.If(!validHeader("Location", r.Prefix), "Prefix", "%q: never what a URL begins with: want no spaces around it, and no control characters", r.Prefix),
		field.If(!validHeader("Location", r.To), "To", "%q: want no spaces around it, and no control characters", r.To),
	}
	to, err := compileTemplate(r.To, inLocations)
	if err != nil {
		return errors.Join(append(errs, field.In("To", err))...)
	}
	groups := 0
	if re != nil && r.Regexp != "" {
		groups = re.NumSubexp()
	}
	return errors.Join(append(errs,
		field.If(r.To == "", "To", "none: want a path or a URL, such as /app/"),
		field.If(!begins(to), "To", "%q: want what begins with / or https://, such as /app/, or with a variable", r.To),
		field.If(to.lastGroup() > groups && (re != nil || r.Regexp == ""), "To",
			"${%d}: want a Regexp that has such a group, or $$ for a dollar sign", to.lastGroup()))...)
}

// schemeStart is what a URL with a host begins with.
var schemeStart = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*:)?//`)

// begins reports whether a To can be told for a path or a URL by its beginning.
func begins(to template) bool {
	if len(to) == 0 || to[0].text != nil {
		return true
	}
	text := to[0].literal
	if start := schemeStart.FindString(text); start != "" {
		return text == start || !endsHost(text[len(start):])
	}
	return text[0] == '/' && !strings.HasPrefix(text, `/\`)
}

// locationRule is a LocationRewrite that is ready for use.
type locationRule struct {
	prefix template
	whole  bool           // the prefix ends within a host, of which nothing may follow
	re     *regexp.Regexp // nil: prefix
	to     template
	shape  urlShape // of to
}

func newLocationRules(list []LocationRewrite) (rules []locationRule) {
	for _, r := range list {
		var rule locationRule
		if r.Regexp != "" {
			rule.re, _ = compileRegexp(r.Regexp) // valid, as all here
		} else {
			rule.prefix, _ = compileTemplate(r.Prefix, inResponses)
			rule.whole = shapeOf(rule.prefix).open
		}
		rule.to, _ = compileTemplate(r.To, inLocations)
		rule.shape = shapeOf(rule.to)
		rules = append(rules, rule)
	}
	return rules
}

// urlShape says where the host of a URL with variables is. The zero value is for one that names
// no host.
type urlShape struct {
	scheme   bool // the first piece is a variable, which is the scheme
	from, to int  // pieces with some of the host in them: [from, to)
	open     bool // the URL ends with the host
}

func shapeOf(url template) (s urlShape) {
	start := "://"
	switch {
	case len(url) == 0:
		return s
	case url[0].text == nil:
		start = schemeStart.FindString(url[0].literal)
	case len(url) > 1 && strings.HasPrefix(url[1].literal, start):
		s.scheme, s.from = true, 1
	default:
		return s
	}
	if start == "" || len(url) == s.from+1 && url[s.from].literal == start {
		return urlShape{} // a path, or a scheme alone
	}
	s.open = true
	for s.to = s.from; s.open && s.to < len(url); s.to++ {
		text := url[s.to].literal
		if s.to == s.from {
			text = text[len(start):]
		}
		s.open = !strings.ContainsAny(text, hostEnds)
	}
	return s
}

// takes reports whether the URL keeps its host with a text for its variable i.
func (s *urlShape) takes(i int, text string) bool {
	switch {
	case s.scheme && i == 0:
		return strings.EqualFold(text, "http") || strings.EqualFold(text, "https")
	case s.from <= i && i < s.to:
		return !strings.ContainsAny(text, hostEnds+"@")
	}
	return true
}

// hostEnds are the bytes that end a host in a URL. A browser takes \ for /.
const hostEnds = `/?#\`

// relocate changes the URLs of a response that is being made.
func (x *exchange) relocate() {
	for i := range x.answer {
		f := &x.answer[i]
		switch {
		case f.ID == h1.Location:
			f.Value = x.relocated(f.Value)
		case f.ID == h1.Other && h1.EqualName(f.Name, "Refresh"):
			if before, url, after, ok := cutRefresh(f.Value); ok {
				if now := x.relocated(url); now != url {
					f.Value = before + now + after
				}
			}
		}
	}
}

// cutRefresh cuts a Refresh around its URL, as nginx finds it, and within quotes.
func cutRefresh(value string) (before, url, after string, ok bool) {
	for at := 0; at+len("url=") <= len(value); at++ {
		if !strings.EqualFold(value[at:at+len("url=")], "url=") {
			continue
		}
		at += len("url=")
		url = value[at:]
		if url != "" && (url[0] == '"' || url[0] == '\'') {
			quote := url[:1]
			at++
			if url, after, ok = strings.Cut(value[at:], quote); ok {
				after = quote + after
			}
		}
		return value[:at], url, after, true
	}
	return "", "", "", false
}

// relocated returns what the first rule that matches makes of a URL.
func (x *exchange) relocated(url string) string {
	for i := range x.cfg.locations {
		r := &x.cfg.locations[i]
		if groups, rest, ok := r.match(x, url); ok {
			return r.apply(x, url, groups, rest)
		}
	}
	return url
}

// match reports whether a URL is one for the rule, with the groups, or what follows the prefix.
func (r *locationRule) match(x *exchange, url string) (groups []int, rest string, ok bool) {
	if r.re != nil {
		groups = r.re.FindStringSubmatchIndex(url)
		return groups, "", groups != nil
	}
	prefix := r.prefix.value(x)
	rest, ok = strings.CutPrefix(url, prefix)
	if prefix == "" || r.whole && !endsHost(rest) {
		return nil, "", false
	}
	return nil, rest, ok
}

// endsHost reports whether what follows a host is no more of that.
func endsHost(rest string) bool { return rest == "" || strings.IndexByte(hostEnds, rest[0]) >= 0 }

// apply makes another URL of one that has matched.
func (r *locationRule) apply(x *exchange, url string, groups []int, rest string) string {
	start, hosted := len(x.text), r.shape.to > 0
	for i := range r.to {
		p, from := &r.to[i], len(x.text)
		switch {
		case p.text == nil:
			x.text = append(x.text, p.literal...)
			continue
		case p.group == 0:
			x.text = p.text(x, x.text)
		case groups[2*p.group] >= 0:
			x.text = append(x.text, url[groups[2*p.group]:groups[2*p.group+1]]...)
		}
		hosted = hosted && r.shape.takes(i, bytesText(x.text[from:]))
	}
	x.text = append(x.text, rest...)
	now := strings.Trim(x.written(start), " ")
	host := hostOfURL(now)
	switch {
	case strings.ContainsFunc(now, isControl):
	case r.shape.to == 0 && strings.HasPrefix(now, "/"):
		return onThisHost(now)
	case host == "":
	case hosted && (!r.shape.open || endsHost(rest)), strings.EqualFold(host, hostOfURL(url)):
		return now
	}
	return url
}

// isControl reports whether a character ends a line, or is left out by browsers.
func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// hostOfURL returns the host that a URL leads to; empty: it names none.
func hostOfURL(url string) string {
	start := schemeStart.FindString(url)
	if start == "" {
		return ""
	}
	host := url[len(start):]
	if end := strings.IndexAny(host, hostEnds); end >= 0 {
		host = host[:end]
	}
	host, _ = hostOnly(host[strings.LastIndexByte(host, '@')+1:])
	return host
}
