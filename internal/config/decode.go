package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/internal/words"
)

// maxNodes bounds the work that one file can cause: aliases let a short text
// stand for a huge one.
const maxNodes = 200_000

// maxDepth bounds how deep merge keys may lead from one mapping to the next.
const maxDepth = 20

// decoder walks the YAML nodes of one file.
type decoder struct {
	file string
	read func(path string) ([]byte, error) // a file that the configuration names

	at       map[string]Position // by path: where its value stands
	covered  map[*yaml.Node]bool // what no message shows
	long     map[*yaml.Node]bool // of these, texts that are not on one line
	hidden   map[string]string   // by path: what messages call the place of what they do not show
	wrong    map[string]bool     // by path: that it has a problem
	checks   map[string]*Check   // those under checks, once all is decoded
	used     map[string]bool     // of these, those that something refers to
	problems []Problem
	ofFiles  int // how many of the problems are only with files that are named
	warnings []Problem
	nodes    int
}

// decode records where n stands and decodes it.
func (d *decoder) decode(v value, n *yaml.Node, path string) {
	if n = d.resolve(n); n == nil {
		return
	}
	if d.covered[n] {
		d.hide(path, path)
	}
	if n.ShortTag() == "!!null" {
		d.fail(path, "nothing is given: add a value or leave the key out")
		return
	}
	if n.Line > 0 {
		d.at[path] = d.position(n)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(path, "tag %s: not supported: leave it out", show(n.Tag))
		return
	}
	v.decode(d, n, path)
}

// resolve follows an alias. It returns nil when the file has more than maxNodes values.
func (d *decoder) resolve(n *yaml.Node) *yaml.Node {
	if n.Line > 0 { // defaults are free
		if d.nodes++; d.nodes == maxNodes+1 {
			d.failAt(d.position(n), "", "more than %d values, with aliases expanded: make the file smaller", maxNodes)
		}
	}
	switch {
	case d.nodes > maxNodes:
		return nil
	case n.Kind == yaml.AliasNode:
		return n.Alias
	}
	return n
}

// pair is one entry of a mapping.
type pair struct {
	name       string
	key, value *yaml.Node
}

// pairs returns the entries of a mapping with merge keys expanded. If n is not a mapping
// it reports that and returns false.
func (d *decoder) pairs(n *yaml.Node, path string) ([]pair, bool) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, "%s: want a mapping, such as {key: value}", d.kind(n))
		return nil, false
	}
	return d.merge(nil, n, path, make(map[string]bool), 0), true
}

// merge appends the entries of mapping n whose names are not in seen: its own
// first, then those of its merge keys (https://yaml.org/type/merge.html).
func (d *decoder) merge(pairs []pair, n *yaml.Node, path string, seen map[string]bool, depth int) []pair {
	if depth > maxDepth {
		d.fail(path, "merge keys (<<) lead too deep, or in a circle")
		return pairs
	}
	lines := make(map[string]int)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := d.resolve(n.Content[i])
		if k == nil {
			return pairs
		}
		if k.Kind != yaml.ScalarNode {
			d.failAt(d.position(k), path, "%s as a key: want a word", d.describe(k))
			continue
		}
		if d.covered[k] {
			d.hide(join(path, k.Value), path)
		}
		if line, twice := lines[k.Value]; twice {
			d.failAt(d.position(k), join(path, k.Value), "given twice, first in line %v: remove one", own(strconv.Itoa(line)))
			continue
		}
		lines[k.Value] = k.Line
		switch {
		case k.Tag == "!!merge":
			m := d.resolve(n.Content[i+1])
			if m == nil {
				return pairs
			}
			if m.Kind == yaml.SequenceNode {
				merged = append(merged, m.Content...)
			} else {
				merged = append(merged, m)
			}
		case !seen[k.Value]:
			seen[k.Value] = true
			pairs = append(pairs, pair{k.Value, k, n.Content[i+1]})
		}
	}
	for _, m := range merged {
		if m = d.resolve(m); m == nil {
			return pairs
		}
		if m.Kind != yaml.MappingNode {
			d.failAt(d.position(m), join(path, "<<"), "%s: want an alias of a mapping, such as *name", d.kind(m))
			continue
		}
		pairs = d.merge(pairs, m, path, seen, depth+1)
	}
	return pairs
}

// fill decodes the entries of the mapping at path by its keys. Keys that are not given
// get their presets, or the defaults of the libraries.
func (d *decoder) fill(pairs []pair, path string, keys []key) {
	given := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		sub := join(path, p.name)
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == p.name })
		switch {
		case slices.Contains(later, pattern(sub)):
			d.failAt(d.position(p.key), sub, "not available in this version: leave it out")
		case i < 0 && d.full(): // looking for what is meant takes time
		case i < 0:
			d.failAt(d.position(p.key), sub, "%s", own(d.unknownKey(p.name, path, keys)))
			if mayBeNginx(path) {
				d.failNginx(p.name, p.value, sub)
			}
		default:
			d.at[sub] = d.position(p.key)
			d.decode(keys[i].value, p.value, sub)
		}
		given[p.name] = true
	}
	for _, k := range keys {
		sub := join(path, k.name)
		switch {
		case given[k.name], k.required && slices.ContainsFunc(k.unless, func(name string) bool { return given[name] }):
		case k.required:
			d.fail(sub, "missing: add `%s: %s`", own(k.name), own(k.example))
		case k.preset != "":
			d.decode(k.value, k.presetNode(), sub)
		default:
			k.value.setDefaults()
		}
	}
}

// unknownKey says what may be meant by a name that is not among the keys of the mapping
// at path.
func (d *decoder) unknownKey(name, path string, keys []key) string {
	var names []string
	for _, k := range keys {
		if !slices.Contains(names, k.name) { // where a type is not known several have it
			names = append(names, k.name)
		}
	}
	var homes []string
	walk("", "", new(Config).keys(), func(title string, keys []key) {
		if slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			homes = append(homes, cmp.Or(title, "the top level"))
		}
	})
	near, hint := words.Nearest(name, names), nginxHint(name)
	switch {
	case hint != "" && (len(homes) == 0 || mayBeNginx(path)):
		return hint
	case near != "" && len(homes) > 0:
		return fmt.Sprintf("unknown key here: did you mean %q? It belongs to %s", near, words.Choice(homes))
	case near != "":
		return fmt.Sprintf("unknown key: did you mean %q?", near)
	case len(homes) > 0:
		return "unknown key here: it belongs to " + words.Choice(homes)
	}
	return "unknown key: want " + words.Choice(names)
}

// position returns where n stands.
func (d *decoder) position(n *yaml.Node) Position {
	return Position{File: d.file, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// given reports whether the file itself says something at path.
func (d *decoder) given(path string) bool {
	_, ok := d.at[path]
	return ok
}

// fail records what is wrong at path. Its position is that of the value, or of
// the nearest mapping around it.
func (d *decoder) fail(path, format string, args ...any) {
	d.failAt(near(d.at, d.file, path), path, format, args...)
}

// failFile records what is wrong with the file that the value at path names.
func (d *decoder) failFile(path, format string, args ...any) {
	n := len(d.problems)
	d.fail(path, format, args...)
	d.ofFiles += len(d.problems) - n
}

// full reports whether no more problems are recorded.
func (d *decoder) full() bool { return len(d.problems) > maxProblems }

func (d *decoder) failAt(pos Position, path, format string, args ...any) {
	if !d.full() {
		d.wrong[path] = true
		d.problems = append(d.problems, d.problem(pos, path, format, args))
	}
}

// warn records a doubt about the value at path.
func (d *decoder) warn(path, format string, args ...any) {
	if len(d.warnings) <= maxProblems {
		d.warnings = append(d.warnings, d.problem(near(d.at, d.file, path), path, format, args))
	}
}

// near is where path stands, or the nearest mapping around it.
func near(at map[string]Position, file, path string) Position {
	for ; path != ""; path = parent(path) {
		if pos, ok := at[path]; ok {
			return pos
		}
	}
	return cmp.Or(at[""], Position{file, 1, 1})
}

// parent is the path of the mapping or the list that path is in; of the root it is empty.
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// join appends a key to a path.
func join(path, name string) string {
	if name = keyName(name); path == "" {
		return name
	}
	return path + "." + name
}

var itemIndex = regexp.MustCompile(`\[\d+\]`)

// pattern is a path for any index: vrrp[].auth.
func pattern(path string) string { return itemIndex.ReplaceAllString(path, "[]") }

// failed reports whether something is wrong at path itself.
func (d *decoder) failed(path string) bool { return d.wrong[path] }
