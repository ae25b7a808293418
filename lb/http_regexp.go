package lb

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// maxRegexp bounds regular expressions: RE2's memory grows with them.
const maxRegexp = 1000

// compileRegexp compiles a regular expression of a configuration.
func compileRegexp(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegexp {
		return nil, fmt.Errorf("%d bytes: want a regular expression of at most %d", len(text), maxRegexp)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%q: want a regular expression as RE2 has them, which know no backreferences and no look-ahead: %w", text, err)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil || !meetDollars(tree) {
		return re, err
	}
	return regexp.Compile(tree.String())
}

// meetDollars has each $ match before a line feed at the end, too, as PCRE and nearly all programs
// but Go have it. Without that a path with %0a at its end would get past a route for ^/admin/.*$,
// and an application behind may well take it. It reports whether there are any.
func meetDollars(tree *syntax.Regexp) (found bool) {
	for _, sub := range tree.Sub {
		found = meetDollars(sub) || found
	}
	if tree.Op != syntax.OpEndText || tree.Flags&syntax.WasDollar == 0 {
		return found
	}
	feed := &syntax.Regexp{Op: syntax.OpLiteral, Rune: []rune{'\n'}}
	end := &syntax.Regexp{Op: syntax.OpEndText} // \z
	*tree = syntax.Regexp{Op: syntax.OpConcat, Sub: []*syntax.Regexp{
		{Op: syntax.OpQuest, Sub: []*syntax.Regexp{feed}, Flags: syntax.NonGreedy}, end,
	}}
	return true
}
