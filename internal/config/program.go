package config

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/havip/havip/healthcheck"
	"go.yaml.in/yaml/v3"
)

// command is a program and its arguments: a list, or the program alone.
func command(to *[]string) value {
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		argument := func(s *string) value {
			return text(s, "text without NUL", func(s string) bool { return !strings.ContainsRune(s, 0) })
		}
		if n.Kind == yaml.ScalarNode && strings.ContainsAny(n.Value, " \t\n") {
			// Arguments may be passwords.
			program, _, _ := strings.Cut(strings.TrimSpace(n.Value), " ")
			d.fail(path, "%s ...: no shell splits this: write a list, such as [%s, ARGUMENT]", show(program), show(program))
			return
		}
		oneOrList(to, argument).decode(d, n, path)
		if len(*to) == 0 {
			return
		}
		program := (*to)[0]
		if !filepath.IsAbs(program) && !d.failed(path+"[0]") {
			d.fail(path, "%s: want the absolute path of a program", show(program))
		}
	}}
}

// program is what an exec check runs: a command.
func program(e *healthcheck.Exec) value {
	return value{to: []*target{{to: &e.Path}, {to: &e.Args}}, decode: func(d *decoder, n *yaml.Node, path string) {
		var words []string
		if command(&words).decode(d, n, path); len(words) > 0 {
			e.Path, e.Args = words[0], words[1:]
		}
	}}
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// environment is a mapping from names of variables to values.
func environment(to *[]string) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		for _, e := range d.entries(n, path, "text without NUL") {
			*to = append(*to, e.name+"="+e.text)
		}
	}}
}

// oneOrList is a list, or its only item.
func oneOrList[T any](to *[]T, item func(*T) value) value {
	v := list(to, item)
	many := v.decode
	v.to[0].alone = true
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			many(d, n, path)
			return
		}
		*to = make([]T, 1)
		item(&(*to)[0]).decode(d, n, path)
	}
	return v
}
