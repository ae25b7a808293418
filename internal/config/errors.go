package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Position is a place in a configuration file. Line and Column count from 1.
type Position struct {
	File         string
	Line, Column int
}

// String returns "file:line:column".
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Problem is one thing that is wrong, or in Config.Warnings doubtful, in a
// configuration file.
type Problem struct {
	Pos  Position
	Path string // such as "vrrp[0].vrid"; empty: the file as a whole
	Text string // what is wrong and what to do about it
}

// Error returns the problem as one line.
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%s: %s", p.Pos, p.Text)
	}
	return fmt.Sprintf("%s: %s: %s", p.Pos, p.Path, p.Text)
}

// Errors are all problems found in a configuration file, in its order.
type Errors []Problem

// Error returns one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// maxProblems bounds what is reported about one file.
const maxProblems = 200

// Merge returns the problems of both lists, each of which is in the order of the
// file, in that order.
func Merge(a, b []Problem) []Problem { return sorted(slices.Concat(a, b)) }

// sorted returns the problems in the order of the file, without repetitions:
// what is said once and reached through aliases is wrong only once.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(a.Pos.Line-b.Pos.Line, a.Pos.Column-b.Pos.Column)
	})
	return slices.Compact(problems)
}

// show makes text from a file fit for an error message: quoted if it could be
// mistaken, cut if it is long, and without a user and a password.
func show(s string) string { return showUpTo(60, s) }

func showUpTo(most int, s string) string {
	s = withoutUser(s)
	plain := s != ""
	for i, r := range s {
		if i >= most {
			return showUpTo(most, s[:i]) + "..."
		}
		if r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return fmt.Sprintf("%q", s)
}
