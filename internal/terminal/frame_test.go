package terminal

import (
	"slices"
	"strings"
	"testing"
)

// TestFrame fills the screen, and never clears what it draws again.
func TestFrame(t *testing.T) {
	for _, tt := range []struct {
		name  string
		text  string
		first int
		rows  int
		want  []string // rows of the screen
	}{
		{"fewer lines than rows", "a\nb\n", 0, 5, []string{"a", "b", "", "", "FOOT"}},
		{"more lines than rows", "a\nb\nc\nd\n", 0, 3, []string{"a", "b", "FOOT"}},
		{"scrolled", "a\nb\nc\nd\n", 2, 3, []string{"c", "d", "FOOT"}},
		{"one row", "a\nb\n", 0, 1, []string{"FOOT"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := frame(tt.text, tt.first, tt.rows, "FOOT")
			if strings.Contains(got, "\x1b[2J") || strings.Count(got, home) != 1 || strings.Count(got, erase) != tt.rows {
				t.Errorf("%q", got)
			}
			for _, sequence := range []string{hold, home, erase, below, release, reverse, plain} {
				got = strings.ReplaceAll(got, sequence, "")
			}
			if rows := strings.Split(got, "\r\n"); !slices.Equal(rows, tt.want) {
				t.Errorf("rows %q, want %q", rows, tt.want)
			}
		})
	}
}

// TestParseKeys: keys come alone, together and in pieces, and nothing else is one.
func TestParseKeys(t *testing.T) {
	for typed, want := range map[string]struct {
		keys []key
		rest string
	}{
		"q":                      {[]key{keyQuit}, ""},
		"\x03":                   {[]key{keyQuit}, ""},
		"jk\x1b[A":               {[]key{keyDown, keyUp, keyUp}, ""},
		"\x1bOBG":                {[]key{keyDown, keyEnd}, ""},
		"\x1b":                   {nil, "\x1b"},
		"\x1b[5":                 {nil, "\x1b[5"},
		"\x1b[5~ ":               {[]key{keyPageUp, keyPageDown}, ""},
		"\x1bO":                  {nil, "\x1bO"},
		"\x1bq":                  {[]key{keyQuit}, ""},
		"\x1b[1;5Bxyz":           {nil, ""},
		"\x1b[20000000000000000": {nil, ""},
	} {
		got, rest := parseKeys([]byte(typed))
		if !slices.Equal(got, want.keys) || string(rest) != want.rest {
			t.Errorf("%q: keys %v and %q are left, want %v and %q", typed, got, rest, want.keys, want.rest)
		}
	}
}

// FuzzParseKeys: whatever is typed, nothing is kept for ever.
func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("q\x1b[A"))
	f.Add([]byte("\x1b[1;5")) // incomplete
	f.Add([]byte("\x1b\x1b\x1b[[[["))
	f.Fuzz(func(t *testing.T, typed []byte) {
		if _, rest := parseKeys(typed); len(rest) >= 16 {
			t.Errorf("%d bytes are left of %q", len(rest), typed)
		}
	})
}

// TestScroll ends at the first and at the last line.
func TestScroll(t *testing.T) {
	for _, tt := range []struct {
		first int
		k     key
		lines int
		want  int
	}{
		{0, keyUp, 100, 0}, {0, keyDown, 100, 1}, {0, keyPageDown, 100, 9}, {5, keyPageUp, 100, 0}, {95, keyDown, 100, 90},
		{0, keyEnd, 100, 90}, {50, keyTop, 100, 0}, {0, keyPageDown, 5, 0}, {90, 0, 20, 10},
	} {
		if got := scroll(tt.first, tt.k, tt.lines, 11); got != tt.want {
			t.Errorf("line %d of %d, key %d: line %d, want %d", tt.first, tt.lines, tt.k, got, tt.want)
		}
	}
}
