package lb

import (
	"cmp"
	"slices"
	"strings"
)

// pathTable has the routes for a host, by path. A nil one has none.
type pathTable struct {
	exact map[string][]*route
	root  pathNode
}

// pathNode is a node of a tree of paths, whose edges have one byte or more.
type pathNode struct {
	edge     string      // that leads here
	first    string      // the first bytes of the edges to children,
	children []*pathNode // in this order
	prefixes []prefixRoute
	own      []regexpRoute // whose literal ends here

	// What finish finds out.
	up      *pathNode     // the nearest node above with prefixes; nil: none
	regexps []regexpRoute // of own, and of all nodes above, in the order of the routes
}

// prefixRoute is a route for all paths that begin with a node's.
type prefixRoute struct {
	*route
	first bool // it comes before regular expressions
}

// regexpRoute is a route for all paths that a regular expression matches.
type regexpRoute struct {
	*route
	pathPattern
	order int // of its path among all that there are
}

// add adds a valid path; empty: all paths.
func (t *pathTable) add(path string, to *route, order int) {
	if path == "" {
		t.root.prefixes = append(t.root.prefixes, prefixRoute{route: to})
		return
	}
	p, _ := parsePath(path)
	switch p.kind {
	case pathExact:
		if t.exact == nil {
			t.exact = make(map[string][]*route)
		}
		t.exact[p.text] = append(t.exact[p.text], to)
	case pathRegexp:
		n := t.root.reach(p.literal)
		n.own = append(n.own, regexpRoute{to, p, order})
	default:
		n := t.root.reach(p.text)
		n.prefixes = append(n.prefixes, prefixRoute{to, p.kind == pathFirst})
	}
}

// reach returns the node of a path below n, and makes it if it is not there.
func (n *pathNode) reach(path string) *pathNode {
	if path == "" {
		return n
	}
	at := strings.IndexByte(n.first, path[0])
	if at < 0 {
		child := &pathNode{edge: path}
		n.first += path[:1]
		n.children = append(n.children, child)
		return child
	}
	child := n.children[at]
	common := 0
	for common < len(path) && common < len(child.edge) && path[common] == child.edge[common] {
		common++
	}
	if common < len(child.edge) { // a node between both
		between := &pathNode{edge: child.edge[:common], first: child.edge[common : common+1], children: []*pathNode{child}}
		child.edge = child.edge[common:]
		n.children[at] = between
		child = between
	}
	return child.reach(path[common:])
}

// finish makes the table ready for use.
func (t *pathTable) finish() {
	if t != nil {
		t.root.finish(nil, nil)
	}
}

func (n *pathNode) finish(up *pathNode, above []regexpRoute) {
	n.up, n.regexps = up, above
	if len(n.own) > 0 {
		n.regexps = slices.Concat(above, n.own)
		slices.SortStableFunc(n.regexps, func(a, b regexpRoute) int { return cmp.Compare(a.order, b.order) })
	}
	if len(n.prefixes) > 0 {
		up = n
	}
	for _, child := range n.children {
		child.finish(up, n.regexps)
	}
}

// find returns the route of a request with a path; nil: there is none.
func (t *pathTable) find(x *exchange, path string) *route {
	if t == nil {
		return nil
	}
	for _, to := range t.exact[path] {
		if to.takes(x) {
			return to
		}
	}
	n := t.root.deepest(path)
	prefix := n.longest(x)
	if prefix.first {
		return prefix.route
	}
	for i := range n.regexps {
		if r := &n.regexps[i]; r.re.MatchString(path) && r.takes(x) {
			x.matched = r.re
			return r.route
		}
	}
	return prefix.route
}

// deepest returns the last node on the way of a path.
func (n *pathNode) deepest(path string) *pathNode {
	for path != "" {
		at := strings.IndexByte(n.first, path[0])
		if at < 0 || !strings.HasPrefix(path, n.children[at].edge) {
			break
		}
		n = n.children[at]
		path = path[len(n.edge):]
	}
	return n
}

// longest returns the route for the longest prefix on the way to n.
func (n *pathNode) longest(x *exchange) prefixRoute {
	if len(n.prefixes) == 0 {
		n = n.up
	}
	for ; n != nil; n = n.up {
		for _, p := range n.prefixes {
			if p.takes(x) {
				return p
			}
		}
	}
	return prefixRoute{}
}
