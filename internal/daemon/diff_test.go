package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestDiff: each part has one fate, in the order of the next configuration, and
// what ends comes last. When all steps have been carried out there are the parts
// of the next configuration and no other.
func TestDiff(t *testing.T) {
	// A configuration is "key value". A part can take in another value in lower
	// case, and has to make room for any other.
	type part struct{ cfg string }
	key := func(cfg string) string { k, _, _ := strings.Cut(cfg, " "); return k }
	judge := func(old *part, next string) fate {
		switch {
		case old.cfg == next:
			return keep
		case next == strings.ToLower(next):
			return update
		}
		return replace
	}
	for _, tc := range []struct {
		name      string
		old, next []string
		want      string
	}{
		{"nothing", nil, nil, ""},
		{"the first", nil, []string{"b 1", "a 1"}, "b is new, a is new"},
		{"the same", []string{"a 1", "b 1"}, []string{"b 1", "a 1"}, "b stays as it is, a stays as it is"},
		{"all at once", []string{"a 1", "b 1", "c 1", "d 1", "e 1"}, []string{"f 1", "c X", "b x", "a 1"},
			"f is new, c starts anew, b changes in place, a stays as it is, d ends, e ends"},
		{"all end", []string{"c 1", "a 1", "b 1"}, nil, "a ends, b ends, c ends"},
		{"a key twice", []string{"a 1"}, []string{"a 1", "a 2", "b 1", "b 2"}, "a stays as it is, b is new"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parts := map[string]*part{}
			for _, cfg := range tc.old {
				parts[key(cfg)] = &part{cfg}
			}
			before := maps.Clone(parts)
			steps := diff(parts, tc.next, key, judge)
			var got []string
			for _, s := range steps {
				got = append(got, fmt.Sprint(s.key, " ", s.fate))
				if s.old != before[s.key] {
					t.Errorf("%s: the old part is %v, want %v", s.key, s.old, before[s.key])
				}
				if (s.fate == remove) != (s.cfg == "") {
					t.Errorf("%s %v: the next configuration is %q", s.key, s.fate, s.cfg)
				}
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("got %s\nwant %s", got, tc.want)
			}
			if !maps.Equal(parts, before) {
				t.Error("the parts that run were changed")
			}
			var ended []*part
			after := carryOut(steps, func(cfg string) *part { return &part{cfg} },
				func(p *part, cfg string) { p.cfg = cfg }, func(p *part) { ended = append(ended, p) })
			var keys []string
			for _, cfg := range tc.next {
				k := key(cfg)
				if !slices.Contains(keys, k) && (after[k] == nil || after[k].cfg != cfg) {
					t.Errorf("%s is %v, want %s", k, after[k], cfg)
				}
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if n := len(slices.Compact(keys)); len(after) != n || count(steps, keep, update, replace, add) != n {
				t.Errorf("%d parts, want %d", len(after), n)
			}
			for _, s := range steps {
				if ends := s.old != nil && after[s.key] != s.old; ends != s.ends() || ends != slices.Contains(ended, s.old) {
					t.Errorf("%s %v: the old part ends: %v, want %v", s.key, s.fate, s.ends(), ends)
				}
			}
		})
	}
}
