package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// key is one row of a table in keys.go: a key that a mapping may have.
type key struct {
	name     string
	value    value
	preset   string // the default, in YAML
	setting  bool   // the default is the library's
	example  string // for a key without a default
	required bool
	unless   string   // the key beside it that makes it optional
	modes    []string // of a service that use it; nil: all
	hidden   bool     // no message shows what is under it: it may be, or hold, a secret
	doc      string
}

// in is a key of a service that only some modes use.
func (k key) in(modes ...string) key {
	k.modes = modes
	return k
}

// secret is a key whose value no message shows, nor what is under it.
func (k key) secret() key {
	k.hidden = true
	return k
}

// without is a required key that may be left out where another is given.
func (k key) without(other string) key {
	k.unless = other
	return k
}

func required(name string, v value, example, doc string) key {
	return key{name: name, value: v, example: example, required: true, doc: doc}
}

func preset(name string, v value, preset, doc string) key {
	return key{name: name, value: v, preset: preset, doc: doc}
}

// setting is a key whose default is that of the library's field.
func setting(name string, v value, doc string) key {
	return key{name: name, value: v, doc: doc, setting: true}
}

func optional(name string, v value, example, doc string) key {
	return key{name: name, value: v, example: example, doc: doc}
}

// value decodes one node to where it belongs.
type value struct {
	decode func(d *decoder, n *yaml.Node, path string)
	// to are pointers to the fields that the value goes to. All get it; the first
	// is the one whose owner knows about it. None where the fields are those of
	// sections.
	to     []any
	owner  *owner   // of to[0]; nil: no library's
	others []*owner // of the rest
	keys   []key    // of a mapping
	// variants are the mappings that may stand here where there are several, or a
	// list of them.
	variants func() []section
	shape    shape
	want     string   // the range, for documentation
	words    []string // instead of want
}

// sections are the mappings that may stand in place of a value, each with its keys:
// more than one where a type selects. A plain value has none.
func (v value) sections() []section {
	switch {
	case v.keys != nil:
		return []section{{keys: v.keys}}
	case v.variants != nil:
		return v.variants()
	}
	return nil
}

// also is a value that goes to further fields, of the same type, as well.
func (v value) also(to ...any) value {
	decode, first := v.decode, reflect.ValueOf(v.to[0]).Elem()
	for _, p := range to {
		v.to, v.others = append(v.to, p), append(v.others, &owner{off: v.owner.off})
	}
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		decode(d, n, path)
		for _, p := range to {
			reflect.ValueOf(p).Elem().Set(first)
		}
	}
	return v
}

// section is one kind of mapping.
type section struct {
	label string // distinguishes it from the other sections at the same place
	doc   string
	keys  []key
}

// shape is how sections stand in the file.
type shape uint8

const (
	single shape = iota // a mapping
	listed              // a list of mappings
	named               // a mapping from names to mappings
)

// object is a mapping with the given keys. Its place goes to pos unless that
// is nil.
func object(pos *Position, keys []key) value {
	return value{
		decode: func(d *decoder, n *yaml.Node, path string) {
			if pos != nil {
				*pos = d.position(n)
			}
			if pairs, ok := d.pairs(n, path); ok {
				d.fill(pairs, path, keys)
			}
		},
		keys: keys,
	}
}

// kind is the key type, which selects one of the variants.
func kind(to *string, variants []variant) key {
	var words []string
	for _, v := range variants {
		words = append(words, v.name)
	}
	return required("type", word(to, words...), words[0], "")
}

// typed is a mapping whose key type, wherever it stands, says which others of
// keys it has: those that its variant names, and those that no variant in all
// does.
func typed(pos *Position, keys []key, all, variants []variant) value {
	v := object(pos, keys)
	v.keys = nil
	sectionOf := func(t variant) section {
		s := section{label: "of type " + t.name, doc: t.doc}
		for _, k := range keys {
			special := slices.ContainsFunc(all, func(o variant) bool { return slices.Contains(o.keys, k.name) })
			if k.name == "type" {
				k.example = t.name
			}
			if preset, ok := t.presets[k.name]; ok {
				k.preset = preset
			}
			if !special || slices.Contains(t.keys, k.name) {
				s.keys = append(s.keys, k)
			}
		}
		return s
	}
	v.variants = func() (sections []section) {
		for _, t := range variants {
			sections = append(sections, sectionOf(t))
		}
		return sections
	}
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if pos != nil {
			*pos = d.position(n)
		}
		pairs, ok := d.pairs(n, path)
		if !ok {
			return
		}
		for _, p := range pairs {
			for _, t := range variants {
				if said := d.resolve(p.value); p.name == "type" && said != nil && said.Value == t.name {
					d.fill(pairs, path, sectionOf(t).keys)
					return
				}
			}
		}
		// Without a type it is not known what is missing.
		lax := slices.Clone(keys)
		for i := range lax {
			lax[i].required, lax[i].preset = lax[i].name == "type", ""
		}
		d.fill(pairs, path, lax)
	}
	return v
}

// list is a list with at least one item. An item that is wrong stays, zero, so
// that indices keep matching the file.
func list[T any](to *[]T, item func(*T) value) value {
	return value{
		to: []any{to}, owner: new(owner),
		decode: func(d *decoder, n *yaml.Node, path string) {
			if n.Kind != yaml.SequenceNode {
				d.fail(path, "%s: want a list, such as [a, b]", d.describe(n))
				return
			}
			if len(n.Content) == 0 {
				d.fail(path, "empty list: add to it or leave the key out")
			}
			*to = make([]T, len(n.Content))
			for i, c := range n.Content {
				sub := fmt.Sprintf("%s[%d]", path, i)
				d.places[&(*to)[i]] = sub
				d.decode(item(&(*to)[i]), c, sub)
			}
		},
		variants: func() []section { return item(new(T)).sections() },
		shape:    listed,
	}
}

// usage returns the key with an example, as it may stand in a file.
func (k key) usage() own {
	return own(fmt.Sprintf("`%s: %s`", k.name, k.example))
}

// walk visits every mapping that a file may have, with a name for its place.
// What comes later it leaves out.
func walk(place, label string, keys []key, later []string, visit func(title string, keys []key)) {
	visit(strings.TrimSpace(place+" "+label), keys)
	for _, k := range keys {
		sub := join(place, k.name)
		if slices.Contains(later, sub) {
			continue
		}
		switch k.value.shape {
		case listed:
			sub += "[]"
		case named:
			sub += ".NAME"
		}
		for _, s := range k.value.sections() {
			walk(sub, s.label, s.keys, later, visit)
		}
	}
}
