package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Difference is one key in which two versions of a part differ, with its values as files
// have them: durations have units, and a default is what it stands for. Empty: there is no
// such value, or list item.
type Difference struct {
	Key      string // with the way to it from the part: pool.queue, backends[app1].weight
	From, To string // what is secret is shown as such
}

// Changes returns the keys in which o, the later one, differs.
func (l Log) Changes(o Log) []Difference {
	rows := func(l Log) []key { return (&Config{Log: l}).keys()[0].value.keys }
	return compare(rows(l), rows(o))
}

// Changes returns the keys in which o, the later one, differs.
func (a Admin) Changes(o Admin) []Difference {
	return renewed(compare(a.keys(), o.keys()), "tls", a.TLS != nil && o.TLS != nil && a.TLS.Digest != o.TLS.Digest)
}

// Changes returns the keys in which o, the later one, differs.
func (a Alarm) Changes(o Alarm) []Difference { return compare(a.keys(), o.keys()) }

// Changes returns the keys in which o, the later one, differs.
func (r Router) Changes(o Router) []Difference { return compare(r.keys(), o.keys()) }

// Changes returns the keys in which o, the later one, differs.
func (g Group) Changes(o Group) []Difference { return compare(g.value().keys, o.value().keys) }

// Changes returns the keys in which o, the later one, differs.
func (c *Check) Changes(o *Check) []Difference { return compare(c.present(), o.present()) }

// Changes returns the keys in which o, the later one, differs.
func (s Service) Changes(o Service) []Difference {
	all := compare(s.rows(), o.rows())
	all = renewed(all, "tls", s.TLS != nil && o.TLS != nil && s.TLS.Digest != o.TLS.Digest)
	all = renewed(all, "backend_tls", s.BackendTLS.renewedBy(o.BackendTLS))
	for _, r := range s.Routes {
		if i := slices.IndexFunc(o.Routes, func(next ServiceRoute) bool { return next.Name == r.Name }); i >= 0 {
			all = renewed(all, "routes["+r.Name+"].backend_tls", r.BackendTLS.renewedBy(o.Routes[i].BackendTLS))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.RuleFiles)) {
		is, ok := o.RuleFiles[key]
		if ok && is != s.RuleFiles[key] && !slices.ContainsFunc(all, func(d Difference) bool { return d.Key == key }) {
			all = append(all, Difference{key, "the file as it was", "the file as it is now"})
		}
	}
	return all
}

// renewedBy reports whether the files of both, if there are both, hold different things.
func (t *TLS) renewedBy(o *TLS) bool { return t != nil && o != nil && t.Digest != o.Digest }

// rows are those that the mode of the service uses, with the fields that it uses.
func (s *Service) rows() []key {
	rows := slices.DeleteFunc(s.keys(), func(k key) bool { return k.modes != nil && !slices.Contains(k.modes, s.Mode) })
	for i := range rows {
		if rows[i].name == "idle_timeout" { // each mode has a default of its own
			field := map[string]int{"tcp": 0, "udp": 1, "http": 2}[s.Mode]
			rows[i].value.to = rows[i].value.to[field : field+1]
		}
	}
	return rows
}

// renewed adds that files have changed while their names are the same.
func renewed(all []Difference, key string, differs bool) []Difference {
	if differs && !slices.ContainsFunc(all, func(d Difference) bool { return d.Key == key || strings.HasPrefix(d.Key, key+".") }) {
		all = append(all, Difference{key, "files as they were", "files as they are now"})
	}
	return all
}

// compare returns the differences between the mappings of two parts, in the order of rows.
func compare(a, b []key) (all []Difference) {
	from, to := mappingOf(a), mappingOf(b)
	from.compare(&to, "", func(d Difference) { all = append(all, d) })
	return all
}

// tree is what a part says: a mapping, a list of values that are told apart, or a plain
// value.
type tree struct {
	name     string // of the key, or of the item
	children []tree // of a mapping, or of a list
	isList   bool
	isPlain  bool
	alone    bool   // of a mapping: its first value may stand alone
	values   []any  // of a plain value: all fields that get it
	text     string // the same as a file has it
	usual    bool   // it need not be in the file
}

// mappingOf is what rows say.
func mappingOf(rows []key) (t tree) {
	for _, k := range rows {
		c := k.value.tree(k.hidden)
		c.name = k.name
		c.usual = c.usual || !k.required && c.isPlain && (c.text == "" || c.text == k.preset)
		t.children = append(t.children, c)
	}
	return t
}

// tree is what stands in the place of a value. hidden: nothing of that is shown.
func (v value) tree(hidden bool) (t tree) {
	switch {
	case v.rowsOf != nil:
		t = v.optional()
	case v.keys != nil:
		t = mappingOf(v.keys)
		t.alone = v.alone
	case v.items != nil && v.sections() != nil && !v.to[0].isAnothers() && !v.to[0].isEmptied():
		t = v.list()
	default:
		t = v.plain()
	}
	if hidden {
		t.hide()
	}
	return t
}

// servicesOwn is shown for what a route does not say itself.
const servicesOwn = "(the service's)"

// optional is a mapping that may not be there, or be off.
func (v value) optional() tree {
	rows := v.rowsOf()
	switch {
	case rows == nil && len(v.to) > 0 && v.to[0].isAnothers():
		return tree{isPlain: true, usual: true, text: servicesOwn}
	case rows == nil:
		return tree{isPlain: true, usual: true}
	case v.isOff != nil && v.isOff():
		return tree{isPlain: true, values: []any{"off"}, text: "off"}
	}
	return mappingOf(rows)
}

// list is a list of mappings, each called by its name, or by its first key.
func (v value) list() tree {
	t := tree{isList: true}
	seen := map[string]int{}
	for _, item := range v.items() {
		c := mappingOf(slices.Concat(item.keys, item.present()))
		c.alone = item.alone
		c.name = c.label()
		if seen[c.name]++; seen[c.name] > 1 {
			c.name = fmt.Sprint(c.name, " #", seen[c.name])
		}
		t.children = append(t.children, c)
	}
	t.usual = len(t.children) == 0
	return t
}

// present are the rows of rowsOf.
func (v value) present() []key {
	if v.rowsOf == nil {
		return nil
	}
	return v.rowsOf()
}

// label is what an item of a list is called by.
func (t *tree) label() string {
	for _, c := range t.children {
		if c.name == "name" && c.text != "" {
			return c.text
		}
	}
	if len(t.children) > 0 {
		return strings.Trim(t.children[0].text, "[]")
	}
	return ""
}

// plain is a value without keys.
func (v value) plain() tree {
	t := tree{isPlain: true, usual: true}
	for i, to := range v.to {
		field := to.field()
		t.values = append(t.values, field.Interface())
		if i == 0 {
			t.text = to.said(field)
		}
		if to.isAnothers() {
			if !to.whole {
				t.text = servicesOwn
				t.values[i] = servicesOwn
			}
			continue
		}
		if to.inherited != nil && t.text == "" && !to.whole {
			t.text = map[reflect.Kind]string{reflect.Slice: "[]", reflect.Map: "{}"}[field.Kind()]
		}
		t.usual = t.usual && !to.isEmptied() && (to.home == nil && field.IsZero() || to.home != nil && reflect.DeepEqual(field.Interface(), to.preset().Interface()))
	}
	return t
}

// hide leaves nothing to be seen of a secret. That there is one is no secret.
func (t *tree) hide() {
	if t.isPlain && t.text != "" && !(t.usual && t.text == servicesOwn) {
		t.text = redacted
	}
	for i := range t.children {
		if t.children[i].name != "type" && t.children[i].name != "id" {
			t.children[i].hide()
		}
	}
}

// compare finds what is different in o, which has the same place.
func (t *tree) compare(o *tree, path string, found func(Difference)) {
	switch {
	case t.isPlain && o.isPlain:
		if !reflect.DeepEqual(t.values, o.values) {
			found(Difference{path, t.text, o.text})
		}
	case t.isPlain || o.isPlain: // a mapping comes, or goes
		found(Difference{path, t.inline(), o.inline()})
	default:
		t.compareChildren(o, path, found)
	}
}

func (t *tree) compareChildren(o *tree, path string, found func(Difference)) {
	sub := func(name string) string {
		switch {
		case t.isList:
			return path + "[" + name + "]"
		case path == "":
			return name
		}
		return path + "." + name
	}
	for i := range t.children {
		c := &t.children[i]
		if d := o.child(c.name); d != nil {
			c.compare(d, sub(c.name), found)
		} else if !c.isUsual() {
			found(Difference{sub(c.name), c.inline(), ""})
		}
	}
	for i := range o.children {
		if d := &o.children[i]; t.child(d.name) == nil && !d.isUsual() {
			found(Difference{sub(d.name), "", d.inline()})
		}
	}
	if was, is := t.shared(o), o.shared(t); t.isList && !slices.Equal(was, is) {
		found(Difference{path, "[" + strings.Join(was, ", ") + "]", "[" + strings.Join(is, ", ") + "]"})
	}
}

// isUsual reports whether nothing of the tree need be in a file.
func (t *tree) isUsual() bool { return t.usual || !t.isPlain && !t.isList && t.inline() == "{}" }

// child is a key, or an item; nil: there is none.
func (t *tree) child(name string) *tree {
	if i := slices.IndexFunc(t.children, func(c tree) bool { return c.name == name }); i >= 0 {
		return &t.children[i]
	}
	return nil
}

// shared are the names of the children that o has, too, in their order.
func (t *tree) shared(o *tree) (names []string) {
	for _, c := range t.children {
		if o.child(c.name) != nil {
			names = append(names, c.name)
		}
	}
	return names
}

// inline is everything that is not usual, on one line.
func (t *tree) inline() string {
	if t.isPlain {
		return t.text
	}
	var parts []string
	for i := range t.children {
		switch c := &t.children[i]; {
		case t.isList:
			parts = append(parts, c.inline())
		case c.isPlain && c.usual:
		default:
			if text := c.inline(); text != "" && (c.isPlain || text != "{}" && text != "[]") {
				parts = append(parts, c.name+": "+text)
			}
		}
	}
	if t.isList {
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if t.alone && len(parts) == 1 && strings.HasPrefix(parts[0], t.children[0].name+": ") {
		return strings.TrimPrefix(parts[0], t.children[0].name+": ")
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// textOf prints values whose own text is not that of a file. ok: it does.
func textOf(v any) (text string, ok bool) {
	switch v := v.(type) {
	case []byte:
		return string(v), true
	case netip.AddrPort:
		if !v.Addr().IsValid() {
			return strings.TrimSuffix(fmt.Sprintf(":%d", v.Port()), ":0"), true
		}
	case netip.Addr:
		if !v.IsValid() {
			return "", true
		}
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() || (r.Kind() == reflect.Slice || r.Kind() == reflect.Map) && r.Len() == 0 {
		return "", true
	}
	return "", false
}
