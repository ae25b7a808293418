package config

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field names and values of RFC 9110 §5.1 and §5.5, hosts of RFC 3986 §3.2.2.
var (
	token      = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	fieldValue = regexp.MustCompile(`^[\t\x20-\x7e\x{80}-\x{10ffff}]*$`)
	hostValue  = regexp.MustCompile(`^[A-Za-z0-9._~%-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)
)

func webAddress(to *string) value {
	v := text(to, "a URL such as http://127.0.0.1:8080/health", func(s string) bool {
		u, err := url.Parse(s)
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && validHost(u.Hostname()) &&
			(u.Port() == "" || validPort(u.Port())) && u.Fragment == ""
	})
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

func method(to *string) value {
	return text(to, "an HTTP method such as GET", func(s string) bool {
		return token.MatchString(s) && s == strings.ToUpper(s)
	})
}

func hostHeader(to *string) value {
	return text(to, "a host such as www.example.org", hostValue.MatchString)
}

// fields is a mapping from the names of headers to values.
func fields(to *[]Header) value {
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		seen := make(map[string]bool)
		for _, p := range pairs {
			sub, h := join(path, p.name), Header{Name: p.name}
			lower := strings.ToLower(p.name)
			switch {
			case !token.MatchString(p.name):
				d.failAt(d.position(p.key), sub, "want the name of a header, such as Accept")
			case lower == "host":
				d.failAt(d.position(p.key), sub, "use the key host instead")
			case seen[lower]:
				d.failAt(d.position(p.key), sub, "given twice: remove one")
			}
			seen[lower] = true
			d.decode(text(&h.Value, "the value of a header", fieldValue.MatchString), p.value, sub)
			*to = append(*to, h)
		}
	}}
}

// statuses is a status, a range, or a list of them.
func statuses(to *[]StatusRange) value {
	item := func(r *StatusRange) value {
		const want = "a status such as 200, or a range such as 200-399"
		return scalar(r, want, func(s string) (StatusRange, error) {
			low, high, isRange := strings.Cut(s, "-")
			if !isRange {
				high = low
			}
			least, err1 := strconv.ParseUint(low, 10, 16)
			most, err2 := strconv.ParseUint(high, 10, 16)
			if err1 != nil || err2 != nil || least < 100 || most > 599 || least > most {
				return StatusRange{}, errors.New("want " + want)
			}
			return StatusRange{int(least), int(most)}, nil
		})
	}
	return oneOrList(to, item)
}
