package config

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
)

// A library names the field that is wrong: Backends[1].Weight. Decoding has noted, by
// the addresses of fields, where their values stand. So the name is followed to the
// field, and its address leads to path, line and column.

// placeRows notes where the values of rows stand.
func (d *decoder) placeRows(keys []key, path string) {
	for _, k := range keys {
		d.placeValue(k.value, join(path, k.name))
	}
}

// placeItem is placeRows for an item of a list, which stands at path itself.
func (d *decoder) placeItem(item any, keys []key, path string) {
	d.places[item] = path
	d.placeRows(keys, path)
}

func (d *decoder) placeValue(v value, path string) {
	for _, to := range v.to {
		d.places[to] = path
	}
	if v.owner != nil && v.owner.not {
		d.inverted[path] = true
	}
}

// mapKey stands for the entry of a map that a row points at.
type mapKey struct{ to, key any }

// follow returns pointers to what a name such as Backends[1].Weight means in a
// configuration, and to all that it is in, the innermost first. What is left of the
// name means nothing.
func follow(config reflect.Value, name string) (found []any, rest string) {
	for v := config; ; {
		found = append([]any{v.Addr().Interface()}, found...)
		m := step.FindStringSubmatch(name)
		if m == nil {
			return found, name
		}
		key := m[2]
		if unquoted, err := strconv.Unquote(key); err == nil {
			key = unquoted
		}
		switch v.Kind() {
		case reflect.Struct:
			v = v.FieldByName(m[1])
		case reflect.Slice:
			i, err := strconv.Atoi(m[2])
			if err != nil || i >= v.Len() {
				return found, name
			}
			v = v.Index(i)
		case reflect.Map:
			return append([]any{mapKey{v.Addr().Interface(), key}}, found...), name[len(m[0]):]
		default:
			return found, name
		}
		if !v.IsValid() {
			return found, name
		}
		for (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && !v.IsNil() {
			v = v.Elem()
		}
		name = name[len(m[0]):]
	}
}

// step is the next part of the name of a field.
var step = regexp.MustCompile(`^\.?(?:(\w+)|\[([^\]]*)\])`)

// report says what a library finds wrong with its configurations, each fault where
// the file says the value. What has no place of its own is said of path. configs are
// pointers; where one is a copy of another both are given.
func (d *decoder) report(err error, path string, configs ...any) {
	for _, e := range field.All(err) {
		at, exact := d.placeOf(e.Field, path, configs)
		if isZero(configs[0], e.Field) && !(exact && d.given(at)) {
			// The tables know what may be left out, and what is not of the file comes
			// later, as a pool does.
			continue
		}
		if d.broken(d.whereGiven(at)) {
			continue // what is wrong was said, and this may be what follows from it
		}
		said := d.inKeys(e, configs)
		if _, hidden := d.place(at); hidden {
			said = ownWords(said)
		} else if quoted, err := strconv.QuotedPrefix(said); err == nil {
			value, _ := strconv.Unquote(quoted)
			said = show(value) + said[len(quoted):]
		}
		if d.inverted[at] {
			said = opposites.Replace(said)
		}
		d.fail(at, "%v", own(said))
	}
}

// opposites is for what is said of a field of which the key says the opposite.
var opposites = strings.NewReplacer("true", "false", "false", "true")

// ownWords are what of a library's message is not a value of the file: what follows a
// value in quotation marks, or else the last "want".
func ownWords(said string) string {
	if quoted, err := strconv.QuotedPrefix(said); err == nil {
		return strings.TrimPrefix(said[len(quoted):], ": ")
	}
	if i := strings.LastIndex(said, "want "); i >= 0 {
		return said[i:]
	}
	return "not valid here"
}

// placeOf is the path of what a field's name means, or of the nearest thing around it.
// exact reports whether it is the field's own.
func (d *decoder) placeOf(name, otherwise string, configs []any) (path string, exact bool) {
	path, depth := otherwise, 0
	for _, c := range configs {
		found, rest := follow(reflect.ValueOf(c).Elem(), name)
		for i, p := range found {
			if at, ok := d.places[p]; ok && len(found)-i > depth {
				path, depth, exact = at, len(found)-i, i == 0 && rest == ""
			}
		}
	}
	return path, exact
}

// isZero reports whether a field is zero.
func isZero(config any, name string) bool {
	found, rest := follow(reflect.ValueOf(config).Elem(), name)
	v := reflect.ValueOf(found[0])
	return rest == "" && v.Kind() == reflect.Pointer && v.Elem().IsZero()
}

// whereGiven is the path itself, or what is around it, that the file has.
func (d *decoder) whereGiven(path string) string {
	for path != "" && !d.given(path) {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return path
}

// broken reports whether something was said of path, of what is in it or around it.
func (d *decoder) broken(path string) bool {
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

// inKeys is what an error says, with the names of keys for those of fields beside the
// one that is wrong, or around it.
func (d *decoder) inKeys(e *field.Error, configs []any) string {
	return fieldName.ReplaceAllStringFunc(e.Err.Error(), func(name string) string {
		for around := e.Field; around != ""; {
			around = around[:max(0, strings.LastIndexByte(around, '.'))]
			for _, c := range configs {
				found, rest := follow(reflect.ValueOf(c).Elem(), strings.TrimPrefix(around+"."+name, "."))
				if at, ok := d.places[found[0]]; ok && rest == "" {
					return at[strings.LastIndexByte(at, '.')+1:]
				}
			}
		}
		return name
	})
}

// fieldName is what may be the name of a field, with the way to it.
var fieldName = regexp.MustCompile(`\b[A-Z]+[a-z]\w*(\[\d+\])?(\.[A-Z]\w*)*`)
