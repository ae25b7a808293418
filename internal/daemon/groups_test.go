package daemon

import (
	"testing"

	"github.com/havip/havip/internal/config"
)

// TestGroupState: a group is reported when all of its members are there, but a
// fault at once.
func TestGroupState(t *testing.T) {
	g := newGroup(config.Group{Name: "G", Routers: []string{"a", "b"}})
	for i, s := range []struct{ router, state, want string }{
		{"a", "BACKUP", ""}, {"b", "BACKUP", "BACKUP"},
		{"b", "MASTER", ""}, {"a", "MASTER", "MASTER"},
		{"a", "FAULT", "FAULT"}, {"b", "FAULT", ""},
		{"a", "BACKUP", ""}, {"b", "BACKUP", "BACKUP"},
		{"a", "MASTER", ""}, {"b", "MASTER", "MASTER"},
		{"a", "BACKUP", "BACKUP"}, {"b", "BACKUP", ""},
		{"a", "STOP", ""}, {"b", "STOP", "STOP"},
		{"a", "MASTER", ""}, {"b", "MASTER", "MASTER"},
	} {
		got, changed := g.report(s.router, s.state)
		if !changed {
			got = ""
		}
		if got != s.want {
			t.Errorf("step %d, %s %s: group %q, want %q", i, s.router, s.state, got, s.want)
		}
	}
	g.configure(config.Group{Name: "G", Routers: []string{"a", "c"}})
	if s, changed := g.report("a", "BACKUP"); changed {
		t.Errorf("%s, although nothing is known of a new member", s)
	}
	if s, _ := g.report("c", "BACKUP"); s != "BACKUP" {
		t.Errorf("%q with the new member", s)
	}
}
