package config

import (
	"regexp"
	"strings"
	"testing"

	"github.com/havip/havip/lb"
)

// TestNginxHintsNameKeys: what stands for a directive of nginx is a key that there is.
func TestNginxHintsNameKeys(t *testing.T) {
	known := make(map[string]bool)
	walk("", "", new(Service).keys(), func(title string, keys []key) {
		title = strings.TrimSuffix(strings.TrimSpace(title), "[]")
		for _, k := range keys {
			known[strings.TrimPrefix(title+"."+k.name, ".")] = true
		}
	})
	for name, hint := range nginxKeys {
		for _, said := range regexp.MustCompile(`\b[a-z_]+\.[a-z_.]+\b`).FindAllString(hint, -1) {
			if !known[said] {
				t.Errorf("%s: %q is no key", name, said)
			}
		}
		if plain, _, _ := strings.Cut(hint, ","); !strings.ContainsAny(plain, " :.") && !known[plain] {
			t.Errorf("%s: %q is no key", name, plain)
		}
		if known[name] || known["http."+name] {
			t.Errorf("%s: is a key itself: nobody sees the hint", name)
		}
	}
	for _, k := range httpKeys(new(lb.HTTPConfig)) {
		if hint := nginxHint(k.name, "services[0]"); hint != "" {
			t.Errorf("%s: %s", k.name, hint)
		}
	}
}
