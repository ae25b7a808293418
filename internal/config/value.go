package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// key is one row of a table in keys.go: a key that a mapping may have.
type key struct {
	name     string
	value    value
	preset   string // the default, in YAML
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

func optional(name string, v value, example, doc string) key {
	return key{name: name, value: v, example: example, doc: doc}
}

// value decodes one node to where it belongs.
type value struct {
	decode func(d *decoder, n *yaml.Node, path string)
	// sections are the mappings that may stand here, each with its keys: more
	// than one where a type selects. None for plain values.
	sections []section
	shape    shape
	want     string   // the range, for documentation
	words    []string // instead of want
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
		sections: []section{{keys: keys}},
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
	v.sections = nil
	for _, t := range variants {
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
		v.sections = append(v.sections, s)
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
			for i, t := range variants {
				if said := d.resolve(p.value); p.name == "type" && said != nil && said.Value == t.name {
					d.fill(pairs, path, v.sections[i].keys)
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
				d.decode(item(&(*to)[i]), c, fmt.Sprintf("%s[%d]", path, i))
			}
		},
		sections: item(new(T)).sections,
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
		for _, s := range k.value.sections {
			walk(sub, s.label, s.keys, later, visit)
		}
	}
}
