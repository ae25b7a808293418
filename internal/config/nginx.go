package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What people write who come from nginx. Most of its directives for requests have a key here,
// by another name. Some need none. What havip leaves to nginx is refused with the way out.

// nginxBlocks are the directives that others stand in. What is in them gets its hints, too.
var nginxBlocks = []string{"events", "http", "stream", "server", "upstream", "location", "if", "limit_except"}

// nginxHint says what a directive of nginx is here; empty: name is none. A block may have its
// arguments behind its name, as "location /api/" has.
func nginxHint(name string) string {
	name = directive(name)
	if keys := nginxKeys[name]; keys != "" {
		return "unknown key: in the place of this directive of nginx want " + keys
	}
	if why := nginxNeedless[name]; why != "" {
		return "unknown key: leave this directive of nginx out: " + why
	}
	if job := nginxJob(name); job != "" {
		return "not havip's job: " + job + " left to nginx: keep one that does it, and name it under backends"
	}
	return ""
}

// mayBeNginx reports whether who writes at path may think of nginx, and not of a key that has
// the same name elsewhere.
func mayBeNginx(path string) bool {
	return path == "" || strings.HasPrefix(path, "services[") && !strings.Contains(path, ".check")
}

// directive is the first word of a key.
func directive(name string) string {
	if i := strings.IndexAny(name, " \t("); i > 0 {
		return name[:i]
	}
	return name
}

// nginxJob looks for what a directive begins with. The longest counts.
func nginxJob(name string) string {
	longest := ""
	for begin := range nginxJobs {
		whole := name == begin || strings.HasPrefix(name, begin) && (strings.HasSuffix(begin, "_") || strings.HasPrefix(name[len(begin):], "_"))
		if whole && len(begin) > len(longest) {
			longest = begin
		}
	}
	return nginxJobs[longest]
}

// failNginx reports the directives of nginx that stand in a block of it at path.
func (d *decoder) failNginx(name string, n *yaml.Node, path string) {
	if !slices.Contains(nginxBlocks, directive(name)) || d.full() {
		return
	}
	switch n = d.resolve(n); {
	case n == nil:
	case n.Kind == yaml.SequenceNode: // blocks of the same name
		for _, item := range n.Content {
			d.failNginx(name, item, path)
		}
	case n.Kind == yaml.MappingNode:
		pairs, _ := d.pairs(n, path)
		for _, p := range pairs {
			sub := join(path, p.name)
			if hint := nginxHint(p.name); hint != "" {
				d.failAt(d.position(p.key), sub, "%s", own(hint))
			}
			d.failNginx(p.name, p.value, sub)
		}
	}
}
