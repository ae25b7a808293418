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
	setting  bool   // the default is the library's
	example  string // for a key without a default
	required bool
	unless   []string // keys beside it, each of which makes it optional
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

// presetNode is the node of the default. It has no position.
func (k key) presetNode() *yaml.Node {
	if k.value.keys != nil { // and the default is that of each key
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: k.preset}
}

// value decodes one node to where it belongs.
type value struct {
	decode func(d *decoder, n *yaml.Node, path string)
	// to are the fields that get the value. Range and default are those of the first
	// field. A mapping has none: the fields are those of its keys.
	to   []*target
	keys []key // of a mapping
	// variants are the mappings that may stand here where there are several, or a
	// list of them.
	variants func() []section
	shape    shape
	alone    bool   // the value of the first key may stand in place of the mapping
	asAbove  bool   // the mapping is that of a key before, and not documented again
	want     string // the range or the words, for documentation

	// What is there now, for a comparison of two files: of a list its items, and the rows
	// of a mapping, if they are not keys; no rows: there is no mapping. Both are copies.
	items  func() []value
	rowsOf func() []key
	isOff  func() bool // of a mapping that may be off: the file says so
}

// setDefaults gives each field its library's default.
func (v value) setDefaults() {
	for _, t := range v.to {
		if t.home != nil && t.inherited == nil {
			t.field().Set(t.preset())
		}
	}
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

// rows are the rows of all sections.
func (v value) rows() (keys []key) {
	for _, s := range v.sections() {
		keys = append(keys, s.keys...)
	}
	return keys
}

// orAlone is a mapping, or the value of its first key alone.
func orAlone(keys []key) value {
	alone := func(n *yaml.Node) bool { return n.Kind != yaml.MappingNode }
	v := object(keys).unless(alone, keys[0].value.decode)
	v.alone = true
	return v
}

// also returns v with further fields, of the same type, that get the same value.
func (v value) also(to ...any) value {
	first := v.to[0]
	for _, p := range to {
		v.to = append(v.to, &target{to: p, off: first.off})
	}
	return v.then(func(*decoder, *yaml.Node, string) {
		for _, t := range v.to {
			t.field().Set(first.field())
		}
	})
}

// then returns v with a second step, after decoding; it runs after a failure, too.
func (v value) then(do func(d *decoder, n *yaml.Node, path string)) value {
	decode := v.decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		decode(d, n, path)
		do(d, n, path)
	}
	return v
}

// unless returns v with another way to decode, for some nodes.
func (v value) unless(is func(n *yaml.Node) bool, other func(d *decoder, n *yaml.Node, path string)) value {
	decode := v.decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if is(n) {
			other(d, n, path)
			return
		}
		decode(d, n, path)
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

// object is a mapping with the given keys.
func object(keys []key) value {
	return value{keys: keys, decode: func(d *decoder, n *yaml.Node, path string) {
		if pairs, ok := d.pairs(n, path); ok {
			d.fill(pairs, path, keys)
		}
	}}
}

// position has the position of v stored.
func (v value) position(pos *Position) value {
	return v.then(func(d *decoder, n *yaml.Node, _ string) { *pos = d.position(n) })
}

// variant is an entry of a table of types: a word for the key type, and the keys
// that go with it.
type variant[T any] struct {
	name string
	doc  string
	keys func(*T) []key
	// target is the key of a check that says what is probed. A check without this key
	// probes backends, each at its own address. A type without a target cannot do that.
	target string
}

// typed is a mapping whose key type, wherever it stands, says which others it has. types
// are those that may stand here, of all.
func typed[T any](of *T, to *string, types, all []variant[T]) value {
	var words []string
	for _, t := range types {
		words = append(words, t.name)
	}
	kind := required("type", word(to, words...), words[0], "")
	sectionOf := func(t variant[T]) section {
		k := kind
		k.example = t.name
		return section{label: "of type " + t.name, doc: t.doc, keys: owned(append([]key{k}, t.keys(of)...), inside(of))}
	}
	return value{
		variants: func() (sections []section) {
			for _, t := range types {
				sections = append(sections, sectionOf(t))
			}
			return sections
		},
		rowsOf: func() []key {
			for _, t := range types {
				if t.name == *to {
					return sectionOf(t).keys
				}
			}
			return nil
		},
		decode: func(d *decoder, n *yaml.Node, path string) {
			pairs, ok := d.pairs(n, path)
			if !ok {
				return
			}
			for _, p := range pairs {
				for _, t := range types {
					if said := d.resolve(p.value); p.name == "type" && said != nil && said.Value == t.name {
						d.fill(pairs, path, sectionOf(t).keys)
						return
					}
				}
			}
			// Without a type it is not known what is missing.
			lax := []key{kind}
			for _, t := range all {
				lax = append(lax, t.keys(new(T))...)
			}
			for i := range lax[1:] {
				lax[1+i].required, lax[1+i].preset = false, ""
			}
			d.fill(pairs, path, lax)
		},
	}
}

// inherited makes of a plain value, or of a mapping, one without defaults: what the file does not
// say is that of another one, which has been documented. In own there are, when it has been read,
// the names of the fields that the file says to be zero.
func inherited(v value, own *[]string) value {
	v.asAbove = true
	for _, t := range v.to {
		t.inherited = own
	}
	for i := range v.keys {
		k := &v.keys[i]
		k.setting, k.preset, k.required = false, "", false
		for _, inner := range inherited(k.value, own).keys { // redirect, answer and rewrite are a route's own
			for _, t := range inner.value.to {
				t.whole = true
			}
		}
	}
	return v.then(func(d *decoder, _ *yaml.Node, path string) {
		zero := func(to []*target) {
			for _, t := range to {
				if t.name != "" && t.field().IsZero() {
					*own = append(*own, t.name)
				}
			}
		}
		zero(v.to)
		for _, k := range v.keys {
			if d.given(join(path, k.name)) {
				zero(k.value.to)
			}
		}
	})
}

// maybe is an optional mapping: without it the pointer stays nil.
func maybe[T any](to **T, keys func(*T) []key) value {
	decode := func(d *decoder, n *yaml.Node, path string) {
		*to = new(T)
		object(keys(*to)).decode(d, n, path)
	}
	return value{keys: keys(new(T)), decode: decode, rowsOf: func() []key {
		if *to == nil {
			return nil
		}
		return keys(new(**to))
	}}
}

// list is a list with at least one item, unless it takes the place of another. A wrong item stays in the list as a zero value,
// so that the indices match those of the file.
func list[T any](to *[]T, item func(*T) value) value {
	t := &target{to: to}
	return value{
		to: []*target{t},
		decode: func(d *decoder, n *yaml.Node, path string) {
			if n.Kind != yaml.SequenceNode {
				d.fail(path, "%s: want a list, such as [a, b]", d.describe(n))
				return
			}
			if len(n.Content) == 0 && t.inherited == nil {
				d.fail(path, "empty list: add to it or leave the key out")
			}
			*to = make([]T, len(n.Content))
			for i, c := range n.Content {
				d.decode(item(&(*to)[i]), c, fmt.Sprintf("%s[%d]", path, i))
			}
		},
		variants: func() []section { return item(new(T)).sections() },
		shape:    listed,
		items: func() (all []value) {
			is := slices.Clone(*to)
			for i := range is {
				all = append(all, item(&is[i]))
			}
			return all
		},
	}
}

// oneOrList is a list, or its only item.
func oneOrList[T any](to *[]T, item func(*T) value) value {
	alone := func(n *yaml.Node) bool { return n.Kind != yaml.SequenceNode }
	v := list(to, item).unless(alone, func(d *decoder, n *yaml.Node, path string) {
		*to = make([]T, 1)
		item(&(*to)[0]).decode(d, n, path)
	})
	v.to[0].alone = true
	return v
}

// walk visits every mapping that a file may have, with a name for its place.
func walk(place, label string, keys []key, visit func(title string, keys []key)) {
	visit(strings.TrimSpace(place+" "+label), keys)
	for _, k := range keys {
		sub := join(place, k.name)
		switch k.value.shape {
		case listed:
			sub += "[]"
		case named:
			sub += ".NAME"
		}
		for _, s := range k.value.sections() {
			if !k.value.asAbove {
				walk(sub, s.label, s.keys, visit)
			}
		}
	}
}
