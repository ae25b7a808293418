package config

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Rows of keys whose values may be secrets are marked as hidden. No message shows
// anything of what stands under them, values and names alike, wherever in the file
// the key stands and by whatever alias its value is reached. Messages about them are
// made of two things only: places, and words of this program's own.

// own are this program's own words: fit for any message.
type own string

// Error makes an error of them.
func (o own) Error() string { return string(o) }

// ellipsis stands for what a message does not show, whatever the verb.
type ellipsis struct{}

// Format prints the dots.
func (ellipsis) Format(f fmt.State, _ rune) { io.WriteString(f, "...") }

// credentials are words that no key has, and that others use for what is hidden.
var credentials = []string{"authorization", "passwd", "password", "token"}

// names are those of the hidden keys, what a text that has swallowed one of these has in
// it, and a path of keys' names. The tables are read once; readNames does it since no
// initializer may: the tables' decoders use the names.
var names struct {
	once      sync.Once
	hidden    map[string]bool
	swallowed *regexp.Regexp
	path      *regexp.Regexp
}

func readNames() {
	var all []string
	names.hidden = make(map[string]bool)
	walk("", "", new(Config).keys(), func(_ string, keys []key) {
		for _, k := range keys {
			all = append(all, k.name)
			if k.hidden {
				names.hidden[k.name] = true
			}
		}
	})
	slices.Sort(all)
	names.path = regexp.MustCompile(`^(\.(` + strings.Join(slices.Compact(all), "|") + `)\b|\[\d+\])*`)
	words := append(slices.Sorted(maps.Keys(names.hidden)), credentials...)
	names.swallowed = regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)["']?[\s:=]`)
}

// cover keeps the nodes that stand under hidden keys, and what their aliases lead
// to. It goes by the names of keys: one that is in the wrong place is hidden too.
//
// Where a colon, a comma or a quotation mark is missing a text has swallowed what
// follows. So one that goes on over several lines is covered wherever it stands, and
// one that has a name of those keys in it.
func (d *decoder) cover(n *yaml.Node, data []byte) {
	text := newSource(data)
	seen := make(map[*yaml.Node]bool)
	var visit func(n *yaml.Node, hide bool)
	visit = func(n *yaml.Node, hide bool) {
		if n == nil || d.covered[n] || seen[n] && !hide {
			return
		}
		seen[n] = true
		if n.Kind == yaml.ScalarNode && !text.has(n) {
			d.long[n], d.covered[n] = true, true
		}
		if hide || n.Kind == yaml.ScalarNode && names.swallowed.MatchString(n.Value) {
			d.covered[n] = true
		}
		visit(n.Alias, hide)
		for i, c := range n.Content {
			below := hide
			if n.Kind == yaml.MappingNode && i%2 == 1 {
				below = hide || names.hidden[strings.ToLower(n.Content[i-1].Value)]
			}
			visit(c, below)
		}
	}
	visit(n, false)
}

// source is the text of a file by lines.
type source [][]rune

func newSource(data []byte) (s source) {
	for line := range strings.Lines(string(data)) {
		s = append(s, []rune(line))
	}
	return s
}

// has reports whether a scalar stands in its line as it is, behind its anchor and tag
// and a quotation mark.
func (s source) has(n *yaml.Node) bool {
	const slack = 32 // spaces, and what a tag is short for
	if n.Line < 1 || n.Line > len(s) {
		return false
	}
	rest := s[n.Line-1]
	rest = rest[min(max(n.Column-1, 0), len(rest)):]
	rest = rest[:min(len(rest), len(n.Anchor)+len(n.Tag)+len(n.Value)+slack)]
	return strings.Contains(string(rest), n.Value)
}

// hide keeps what stands at path from messages, which call the place shown.
func (d *decoder) hide(path, shown string) {
	if _, hidden := d.place(path); !hidden {
		d.hidden[path] = shown
	}
}

// place is what messages call a path, and whether what stands there is hidden.
func (d *decoder) place(path string) (string, bool) {
	for at := path; ; at = parent(at) {
		if shown, hidden := d.hidden[at]; hidden {
			return shown + names.path.FindString(path[len(at):]), true
		}
		if at == "" {
			return path, false
		}
	}
}

// problem makes one of what is wrong, or doubtful, at path.
func (d *decoder) problem(pos Position, path, format string, args []any) Problem {
	shown, hidden := d.place(path)
	if !hidden {
		return Problem{pos, shown, fmt.Sprintf(format, args...)}
	}
	for i, a := range args {
		if _, ok := a.(own); !ok {
			args[i] = ellipsis{}
		}
	}
	text := fmt.Sprintf(format, args...)
	return Problem{pos, shown, strings.TrimPrefix(text, "...: ")}
}

// describe names a node in an error message.
func (d *decoder) describe(n *yaml.Node) any {
	if n.Kind == yaml.ScalarNode && !d.covered[n] && n.Style&quoted != 0 {
		return fmt.Sprintf("%q", withoutUser(n.Value))
	}
	return d.quote(n)
}

// kind is describe for what stands in place of a mapping: a text there may be the
// value of a key that is missing.
func (d *decoder) kind(n *yaml.Node) own {
	if n.Kind == yaml.SequenceNode {
		return "a list"
	}
	return "a text"
}

// quote is describe for what means the same with quotation marks and without.
func (d *decoder) quote(n *yaml.Node) any {
	switch {
	case n.Kind == yaml.MappingNode:
		return own("a mapping")
	case n.Kind == yaml.SequenceNode:
		return own("a list")
	case d.long[n]:
		return own("a text of several lines, or with escapes")
	case d.covered[n]:
		return ellipsis{}
	}
	return show(n.Value)
}

// withoutUser takes from a text what may be a user and a password, as in
// http://user:password@host.
func withoutUser(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 && strings.Contains(s[:at], ":") {
		return "..." + s[at:]
	}
	return s
}

// keyName makes the name of a key fit for a path. What is behind a colon without
// its space, and the like, is no name, but may be the value.
func keyName(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.", r)
	})
	if end >= 0 && s != "<<" {
		return s[:end] + "..."
	}
	return show(s)
}

// syntaxReasons are those of the YAML library's messages that are the same for every file.
var syntaxReasons = regexp.MustCompile(`^(found|did not find|could not find|mapping|block sequence|control characters|exceeded max depth|invalid|incomplete|input error)\b`)

// syntaxReason is what the library says of a mistake, without what it quotes of
// the file.
func syntaxReason(said string) string {
	switch {
	case strings.HasPrefix(said, "unknown anchor "):
		return "an alias (*) of what no anchor (&) has named"
	case syntaxReasons.MatchString(said):
		return said
	}
	return "a mistake"
}
