package config

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
	"go.yaml.in/yaml/v3"
)

// entry is one of a mapping from names to texts.
type entry struct {
	pair
	text, path string
}

// entries decodes a mapping from names to texts.
func (d *decoder) entries(n *yaml.Node, path, want string) (all []entry) {
	pairs, _ := d.pairs(n, path)
	for _, p := range pairs {
		e := entry{pair: p, path: join(path, p.name)}
		d.decode(text(&e.text, want, anyText), p.value, e.path)
		all = append(all, e)
	}
	return all
}

// headers is a mapping from names of headers to values.
func headers(to *map[string]string) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		*to = make(map[string]string)
		for _, e := range d.entries(n, path, "the value of a header") {
			d.at[e.path] = d.position(e.key)
			(*to)[e.name] = e.text
		}
	}}
}

// addedHeaders is a mapping from names of headers to values, of which there may be several.
func addedHeaders(to *http.Header) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		*to = make(http.Header)
		pairs, _ := d.pairs(n, path)
		for _, p := range pairs {
			var values []string
			at := join(path, p.name)
			d.decode(oneOrList(&values, func(s *string) value { return text(s, "the value of a header", anyText) }), p.value, at)
			d.at[at] = d.position(p.key)
			(*to)[p.name] = values
		}
	}}
}

// httpHeader is headers for a request of a check.
func httpHeader(to *http.Header) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		*to = make(http.Header)
		for _, e := range d.entries(n, path, "the value of a header") {
			canonical := http.CanonicalHeaderKey(e.name)
			if _, twice := (*to)[canonical]; twice {
				d.failAt(d.position(e.key), e.path, "given twice: remove one")
			}
			to.Add(e.name, e.text)
			// By either name.
			d.at[e.path], d.at[join(path, canonical)] = d.position(e.key), d.position(e.key)
		}
	}}
}

// environment is a mapping from names of variables to values.
func environment(to *[]string) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		for i, e := range d.entries(n, path, "text without NUL") {
			*to = append(*to, e.name+"="+e.text)
			d.at[join(path, strconv.Itoa(i))] = d.position(e.value) // by its index in the library
		}
	}}
}

// webAddress is a URL without a user and a password.
func webAddress(to *string) value {
	return scalar(to, "", func(s string) (string, error) {
		if strings.Contains(s, "@") {
			return s, own("user and password are not supported: want http://127.0.0.1:8080/health, without @")
		}
		return s, nil
	})
}

func webPath(to *string) value {
	return text(to, "a path such as /health", func(s string) bool {
		u, err := url.ParseRequestURI(s)
		return err == nil && strings.HasPrefix(s, "/") && u.Host == "" && u.Fragment == ""
	})
}

// statuses is a status, a range, or a list of them.
func statuses(to *[]healthcheck.StatusRange) value {
	return oneOrList(to, func(r *healthcheck.StatusRange) value {
		return scalar(r, "a status such as 200, or a range such as 200-399", func(s string) (v healthcheck.StatusRange, err error) {
			err = v.UnmarshalText([]byte(s))
			return v, fits(err == nil)
		})
	})
}

// accessRule is a verb and a network.
func accessRule(to *lb.AccessRule) value {
	return scalar(to, "allow or deny, and a network, an address or all", func(s string) (r lb.AccessRule, err error) {
		err = r.UnmarshalText([]byte(s))
		return r, fits(err == nil)
	})
}

// contentType is a media type without parameters, or any.
func contentType(to *string) value {
	return text(to, `a type such as text/html, or "*"`, func(s string) bool {
		return (lb.Compress{Types: []string{s}}).Validate() == nil
	})
}

// protocol is a name for ALPN, of up to 255 bytes (RFC 7301 §3.1).
func protocol(to *string) value {
	return text(to, "a protocol such as h2", func(s string) bool {
		return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	})
}
