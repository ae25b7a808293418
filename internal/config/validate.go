package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/words"
)

// validate checks what no key can tell alone, and has the libraries check their
// configurations. A zero field was missing or wrong; both were reported.
func (d *decoder) validate(c *Config) {
	if len(d.problems) == 0 && len(c.VRRP) == 0 && len(c.Services) == 0 {
		d.fail("", "nothing to do: add vrrp, services or both")
	}
	for i := range c.Checks {
		d.validateCheck(&c.Checks[i])
		d.checks[c.Checks[i].Name] = &c.Checks[i]
	}
	d.validateRouters(c)
	d.validateGroups(c)
	d.validateServices(c)
	d.validateAdmin(c)
	d.validateAlarms(c)
	c.Checks = slices.DeleteFunc(c.Checks, func(c Check) bool {
		if !d.used[c.Name] {
			d.warn(c.path, "nothing uses this check")
		}
		return !d.hasTarget(&c)
	})
}

// unique reports a name that an earlier item has, and remembers it.
func (d *decoder) unique(seen map[string]string, what, path string) {
	if what == "" {
		return
	}
	if first, ok := seen[what]; ok {
		place, _ := d.place(first)
		d.fail(path, "%s: also in %s: each needs its own", what, own(place))
		return
	}
	seen[what] = path
}

func (d *decoder) validateCheck(c *Check) {
	if c.Checker == nil {
		return // without a type there is none
	}
	checked := c.Config
	if !d.hasTarget(c) {
		checked.Checker = c.New("192.0.2.1:80", nil) // as of a backend
	}
	d.report(checked.Validate(), c.path, c.kind().keys(new(Check)), "Checker.", "")
	d.validateProbe(c, c.path)
}

// validateProbe checks the keys of a type that the checker itself does not have, and
// sets the default that follows from one of them.
func (d *decoder) validateProbe(c *Check, path string) {
	switch k := c.Checker.(type) {
	case *healthcheck.HTTP:
		if k.URL == "" || d.failed(path+".url") {
			break
		}
		if d.given(path + ".path") {
			d.fail(path+".path", "url has the path: leave this out")
		}
		c.Path = ""
		if c.TLS != nil && !strings.HasPrefix(strings.ToLower(k.URL), "https:") {
			d.fail(path+".tls", "the url is not https")
		}
	case *healthcheck.File:
		if k.Content != nil && !d.given(path+".fall") {
			c.Fall = 2 // whoever writes the file may have emptied it first
		}
	}
	if t, path := c.TLS, path+".tls"; t != nil {
		d.validateClientTLS(t, path, ".ca", ".server_name")
		keyPath := d.key(t.Certificate, &t.Key, path)
		d.private(t.Key, keyPath)
	}
}

// validateClientTLS checks keys of encryption towards a server against one another.
// Those that are ignored have no effect where nothing is verified.
func (d *decoder) validateClientTLS(t *TLS, path string, ignored ...string) {
	if t.Certificate == "" && t.Key != "" && !d.given(path+".certificate") {
		d.fail(path+".key", "%s: wants a certificate", show(t.Key))
	}
	for _, key := range ignored {
		if t.Insecure && d.given(path+key) {
			d.warn(path+key, "with insecure: true nothing is verified: leave that out, or this")
		}
	}
}

// target is the path of the key by which a check says itself what it probes; empty if its
// type has no such key.
func (d *decoder) target(c *Check) string {
	if target := c.kind().target; target != "" {
		return join(c.path, target)
	}
	return ""
}

// hasTarget reports whether a check probes something by itself.
func (d *decoder) hasTarget(c *Check) bool {
	target := d.target(c)
	return target == "" || d.given(target)
}

// reference returns the check of a name. It reports a name that no check has.
func (d *decoder) reference(name, path string) *Check {
	if name == "" {
		return nil
	}
	d.used[name] = true
	c := d.checks[name]
	if c == nil && !d.full() {
		d.fail(path, "%s: no such check: %s", name, hint(name, slices.Sorted(maps.Keys(d.checks)), "add it under checks"))
	}
	return c
}

// hint proposes the nearest of names; without a near one it returns otherwise.
func hint(name string, names []string, otherwise string) string {
	if near := words.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return otherwise
}

func (d *decoder) validateGroups(c *Config) {
	known := make(map[string]bool, len(c.VRRP))
	for _, r := range c.VRRP {
		known[r.Name] = true
	}
	names, members := make(map[string]string), make(map[string]string)
	for i, g := range c.Groups {
		path := fmt.Sprintf("groups[%d]", i)
		d.unique(names, g.Name, path+".name")
		for j, r := range g.Routers {
			path := fmt.Sprintf("%s.routers[%d]", path, j)
			if r != "" && !known[r] && !d.full() {
				d.fail(path, "%s: no such router: %s", r, hint(r, slices.Sorted(maps.Keys(known)), "add it under vrrp"))
			}
			d.unique(members, r, path)
		}
	}
}
