package config

import (
	"fmt"
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
	return value{to: []any{&e.Path, &e.Args}, owner: new(owner), others: []*owner{new(owner)}, decode: func(d *decoder, n *yaml.Node, path string) {
		var words []string
		command(&words).decode(d, n, path)
		if len(words) == 0 {
			return
		}
		e.Path, e.Args = words[0], words[1:]
		for i := range e.Args {
			d.places[&e.Args[i]] = fmt.Sprintf("%s[%d]", path, i+1)
		}
	}}
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// environment is a mapping from names of variables to values.
func environment(to *[]string) value {
	return value{to: []any{to}, owner: new(owner), decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		*to = make([]string, len(pairs))
		for i, p := range pairs {
			sub, text := join(path, p.name), ""
			d.decode(scalar(&text, "text without NUL", anyText), p.value, sub)
			(*to)[i] = p.name + "=" + text
			d.places[&(*to)[i]] = sub
		}
	}}
}

// oneOrList is a list, or its only item.
func oneOrList[T any](to *[]T, item func(*T) value) value {
	v := list(to, item)
	many := v.decode
	v.owner.alone = true
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			many(d, n, path)
			return
		}
		*to = make([]T, 1)
		item(&(*to)[0]).decode(d, n, path)
		d.places[&(*to)[0]] = path
	}
	return v
}
