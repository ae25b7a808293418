package lb

import (
	"reflect"
	"regexp"
	"testing"
)

// TestRegexpsAreThoseOfRE2: but for a line feed at the end, what a $ is made of changes no match,
// and no group.
func TestRegexpsAreThoseOfRE2(t *testing.T) {
	for _, text := range []string{
		"", "$", "^$", "a$", "^/(a*)(b?)$", "(?P<name>a+)$|b", "(a$)|(b)", "(?i)^/A(?-i:b)$", "(?s)^/.*?$", "(?m)^b$", `^/[^b]+$\z`, "(?U)(a+)(a*)$", "($)*b|a{2,3}$",
		`^/(\w+)/(\w+)$`, `\.(png|jpe?g)$`, "(^|/)a($|/)", `\$$`,
	} {
		re, err := compileRegexp(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		plain := regexp.MustCompile(text)
		if got, want := re.SubexpNames(), plain.SubexpNames(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: groups %q, want %q", text, got, want)
		}
		for _, path := range []string{"", "/", "a", "/a", "/A", "/ab", "/Ab", "/aab", "/aaa", "/b", "b", "ab", "/a/b", "/ab/", "/x.png", "/x.jpeg/", "/a\nb", "x$", "/\xff", "/é"} {
			if got, want := re.FindStringSubmatchIndex(path), plain.FindStringSubmatchIndex(path); !reflect.DeepEqual(got, want) {
				t.Errorf("%q in %q: %v, want %v", text, path, got, want)
			}
		}
	}
}
