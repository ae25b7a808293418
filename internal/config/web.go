package config

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/havip/havip/healthcheck"
	"go.yaml.in/yaml/v3"
)

// headers is a mapping from names of headers to values.
func headers(to *map[string]string) value {
	return value{to: []any{to}, owner: new(owner), decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		*to = make(map[string]string, len(pairs))
		for _, p := range pairs {
			sub, text := join(path, p.name), ""
			d.places[mapKey{to, p.name}] = sub
			d.decode(scalar(&text, "the value of a header", anyText), p.value, sub)
			d.at[sub] = d.position(p.key)
			(*to)[p.name] = text
		}
	}}
}

// httpHeader is headers for a request of a check.
func httpHeader(to *http.Header) value {
	return value{to: []any{to}, owner: new(owner), decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		*to = make(http.Header, len(pairs))
		for _, p := range pairs {
			sub, text, name := join(path, p.name), "", http.CanonicalHeaderKey(p.name)
			d.decode(scalar(&text, "the value of a header", anyText), p.value, sub)
			d.at[sub] = d.position(p.key)
			if _, twice := (*to)[name]; twice {
				d.fail(sub, "given twice: remove one")
			}
			to.Add(p.name, text)
			d.places[mapKey{to, name}] = sub
		}
	}}
}

// webAddress is a URL without a user and a password.
func webAddress(to *string) value {
	v := plain(to)
	decode := v.decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "@") {
			d.fail(path, "user and password are not supported: want http://127.0.0.1:8080/health, without @")
			return
		}
		decode(d, n, path)
	}
	return v
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
		return wanted(r, "a status such as 200, or a range such as 200-399", func(s string) (v healthcheck.StatusRange, ok bool) {
			err := v.UnmarshalText([]byte(s))
			return v, err == nil
		})
	})
}

// protocol is a name for ALPN, of up to 255 bytes (RFC 7301 §3.1).
func protocol(to *string) value {
	return text(to, "a protocol such as h2", func(s string) bool {
		return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	})
}
