package config

import (
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/lb"
)

// page is a mapping, or off.
func page(to **lb.Page) value {
	return orOff(to, pageKeys)
}

// orOff is an optional mapping, or off: the zero value.
func orOff[T any](to **T, keys func(*T) []key) value {
	off := func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == "off" }
	v := maybe(to, keys).unless(off, func(*decoder, *yaml.Node, string) { *to = new(T) })
	v.to = []*target{{to: to}} // the library says what is wrong with it as a whole
	v.isOff = func() bool { return *to != nil && reflect.ValueOf(*to).Elem().IsZero() }
	return v
}

func pageKeys(p *lb.Page) []key {
	return []key{
		required("file", absolutePath(&p.File), "/etc/havip/sorry.html", fmt.Sprintf("its content, up to %d MiB; read again on reload", lb.MaxRuleFile>>20)),
		optional("content_type", plain(&p.ContentType), "application/json", "default: text/html; charset=utf-8"),
		optional("status", integer(&p.Status), "200", "that clients get, 200 or 400 to 599; default: the one that the page is for"),
	}
}

// errorPage is a page with the statuses that it is for.
func errorPage(p *lb.ErrorPage) value {
	statuses := required("statuses", list(&p.Statuses, integer), "[502, 503, 504]", "that the page is for, 400 to 599")
	return object(append([]key{statuses}, pageKeys(&p.Page)...))
}

// auth is a mapping, or off.
func auth(to **lb.BasicAuth) value {
	return orOff(to, func(a *lb.BasicAuth) []key {
		return []key{
			required("file", absolutePath(&a.File), "/etc/havip/htpasswd",
				"as htpasswd -B makes it, and nginx has it: bcrypt up to cost 14, $apr1$, $1$, $5$, $6$, {SHA}, {SSHA}; up to 1 MiB; read again on reload"),
			optional("realm", plain(&a.Realm), "closed site", "that clients show; default: restricted"),
			preset("drop_credentials", boolean(&a.DropCredentials), "false", "Authorization is not passed on to backends"),
		}
	})
}

// validateRuleFiles reads the files that rules of requests name.
func (d *decoder) validateRuleFiles(s *Service, path string) {
	s.RuleFiles = make(map[string]string)
	d.ruleFiles(s, &s.HTTP.Rules, path+".http", "http")
	for i := range s.Routes {
		r := &s.Routes[i]
		d.ruleFiles(s, &r.HTTP.Rules, fmt.Sprintf("%s.routes[%d].http", path, i), "routes["+r.Name+"].http")
	}
	if len(s.RuleFiles) == 0 {
		s.RuleFiles = nil
	}
}

// ruleFiles reads the files of the rules at path. key is what a Difference calls that place.
func (d *decoder) ruleFiles(s *Service, r *lb.Rules, path, key string) {
	read := func(file, path, key string) []byte {
		m := d.material()
		data := m.get(file, path+".file")
		if data != nil {
			s.RuleFiles[key+".file"] += m.digest()
		}
		return data
	}
	page := func(p *lb.Page, path, key string) {
		if p == nil {
			return
		}
		if data := read(p.File, path, key); len(data) > lb.MaxRuleFile {
			d.failFile(path+".file", "%s: larger than %d MiB", show(p.File), lb.MaxRuleFile>>20)
		}
	}
	if a := r.Auth; a != nil {
		if data := read(a.File, path+".basic_auth", key+".basic_auth"); data != nil {
			if _, err := lb.ParseHtpasswd(data); err != nil {
				d.failFile(path+".basic_auth.file", "%s: %v", show(a.File), own(err.Error()))
			}
		}
	}
	page(r.Sorry, path+".sorry", key+".sorry")
	page(r.MaintenancePage, path+".maintenance_page", key+".maintenance_page")
	for i := range r.ErrorPages {
		p := &r.ErrorPages[i]
		item := mappingOf(errorPage(p).keys)
		page(&p.Page, fmt.Sprintf("%s.error_pages[%d]", path, i), fmt.Sprintf("%s.error_pages[%s]", key, item.label()))
	}
}

// withoutFiles is what a configuration is when its files hold nothing: what is wrong with them
// is said elsewhere.
func withoutFiles(h lb.HTTPConfig) lb.HTTPConfig {
	h.HandlerConfig, _ = h.ReadFiles(func(string) ([]byte, error) { return nil, nil })
	return h
}
