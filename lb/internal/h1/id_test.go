package h1

import (
	"strings"
	"testing"
)

// TestIDs: every ID has a name, by which it is found in any case, and no other name is.
func TestIDs(t *testing.T) {
	for id := Other + 1; id < lastID; id++ {
		name := id.String()
		for _, written := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if IDOf(written) != id {
				t.Errorf("%s is %d, want %d", written, IDOf(written), id)
			}
		}
		for _, other := range []string{name + "s", name[1:], "q" + name[1:], name[:len(name)-1] + "\x00", strings.ReplaceAll(name, "-", "_") + "_"} {
			if got := IDOf(other); got != Other {
				t.Errorf("%q is %s", other, got)
			}
		}
	}
	if IDOf("") != Other || IDOf(strings.Repeat("x", 1000)) != Other {
		t.Error("what is no name has an ID")
	}
	if lastID > 64 {
		t.Error("a Set has no room for all IDs")
	}
}

func TestSet(t *testing.T) {
	s := SetOf(Host, XRealIP)
	if !s.Any(XRealIP) || !s.Any(Via, Host) || s.Any(Via, Vary) || s.Any() || s.Len() != 2 {
		t.Errorf("%b", s)
	}
}
