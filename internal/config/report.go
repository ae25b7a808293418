package config

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
)

// A library names the field that is wrong: Backends[1].Weight. The rows know the names of
// their fields. So the name is followed along the rows to the path of the key.

// locate returns the path of the field that name stands for, and what a row knows of the
// field. keys are the rows of the mapping at path. Without a row for the field it returns
// the path of the nearest thing around the field, and nil.
func locate(name, path string, keys []key) (at string, t *target) {
	at = path
	for _, k := range keys {
		sub, inner := join(path, k.name), k.value.keys
		for _, t := range k.value.to {
			rest, ok := strings.CutPrefix(name, t.name)
			item := index.FindStringSubmatch(rest)
			switch {
			case !ok || t.name == "":
			case rest == "":
				return sub, t
			case item != nil:
				if k.value.shape == listed {
					sub += "[" + item[1] + "]"
				} else {
					sub = join(sub, strings.Trim(item[1], `"`))
				}
				if rest = rest[len(item[0]):]; rest == "" {
					return sub, t
				}
				return locate(rest, sub, k.value.rows())
			case rest[0] == '.':
				at, inner = sub, k.value.rows()
				if found, t := locate(rest[1:], sub, inner); t != nil { // a home of its own
					return found, t
				}
			}
		}
		if found, t := locate(name, sub, inner); t != nil {
			return found, t
		}
	}
	return at, nil
}

// index is the index of an item in the name of a field.
var index = regexp.MustCompile(`^\[([^\]]*)\]\.?`)

// report says what a library finds wrong with the mapping at path, each fault where the
// file says the value. keys are the rows of the mapping. renamed are pairs: what the
// library calls a field, and what the rows call it.
func (d *decoder) report(err error, path string, keys []key, renamed ...string) {
	rename := strings.NewReplacer(renamed...)
	for _, e := range field.All(err) {
		name := rename.Replace(e.Field)
		at, t := locate(name, path, keys)
		if name == "Pool" || d.broken(at) {
			continue // a pool comes later; what is broken was said, and this may follow from it
		}
		if strings.HasSuffix(name, "].Pool") { // of a route: the service has none either
			d.fail(at+".backends", "missing: add `backends: [192.168.31.242:8080]` to the route or to the service, "+
				"or answer all requests of the route by http.redirect or http.answer")
			continue
		}
		said := e.Err.Error()
		quoted, _ := strconv.QuotedPrefix(said)
		said = inKeys(rename.Replace(said[len(quoted):]), name, path, keys)
		want := strings.LastIndex(said, "want ")
		switch _, hidden := d.place(at); {
		case hidden && quoted != "":
			said = strings.TrimPrefix(said, ": ")
		case hidden && want >= 0:
			said = said[want:]
		case hidden:
			said = "not valid here"
		case quoted != "":
			value, _ := strconv.Unquote(quoted)
			said = show(value) + said
		}
		if t != nil && t.not {
			said = opposites.Replace(said)
		}
		d.fail(at, "%v", own(said))
	}
}

// opposites is for what is said of a field of which the key says the opposite.
var opposites = strings.NewReplacer("true", "false", "false", "true")

// broken reports whether something was said of path, or of the nearest thing around it
// that the file has: of what is in there, or around there.
func (d *decoder) broken(path string) bool {
	for path != "" && !d.given(path) {
		path = parent(path)
	}
	within := func(a, b string) bool {
		rest, ok := strings.CutPrefix(a, b)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	for w := range d.wrong {
		if w != "" && (within(path, w) || within(w, path)) {
			return true
		}
	}
	return false
}

// inKeys is what is said of a field, with the names of keys for those of fields beside
// the field, or around it.
func inKeys(said, field, path string, keys []key) string {
	return fieldNames.ReplaceAllStringFunc(said, func(name string) string {
		for around := field; around != ""; {
			around = around[:max(0, strings.LastIndexByte(around, '.'))]
			if at, t := locate(strings.TrimPrefix(around+"."+name, "."), path, keys); t != nil {
				return at[strings.LastIndexByte(at, '.')+1:]
			}
		}
		return name
	})
}

// fieldNames is what may be the name of a field, with the way to it.
var fieldNames = regexp.MustCompile(`\b[A-Z]+[a-z]\w*(\[\d+\])?(\.[A-Z]\w*)*`)
