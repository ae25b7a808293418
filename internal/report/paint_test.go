package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClean: what other hosts say cannot steer the terminal, nor begin another line.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"as it is":             "as it is",
		"a\x1b[2Jb":            "a?[2Jb",
		"two\nlines\n":         "two; lines",
		"tab\tand \r return":   "tab and ? return",
		"not UTF-8 \xff":       "not UTF-8 ?",
		"C1: \u009b2J":         "C1: ?2J",
		"right to left \u202e": "right to left ?",
		"größer":               "größer",
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) is %q, want %q", text, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		text   string
		width  int
		middle bool
		want   string
	}{
		{"connection refused", 18, false, "connection refused"},
		{"connection refused", 14, false, "connection..."},
		{"192.168.31.242:8080", 13, true, "192.1...:8080"},
		{"abcdef", 3, true, "abc"},
		{"abcdef", 0, false, ""},
	} {
		if got := shorten(tt.text, tt.width, tt.middle); got != tt.want {
			t.Errorf("shorten(%q, %d) is %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

func TestFitList(t *testing.T) {
	list := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	for width, want := range map[int]string{26: "10.0.0.1 10.0.0.2 10.0.0.3", 20: "10.0.0.1 10.0.0.2 +1", 19: "10.0.0.1 +2", 9: "10.0.0..."} {
		if got := fitList(list, width); got != want {
			t.Errorf("in %d columns: %q, want %q", width, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	got := wrap("  ! ", "a sentence of several words with 0123456789012345678901234", 24)
	want := []string{"  ! a sentence of", "    several words with", "    01234567890123456789", "    01234"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := wrap("- ", "no  screen", 0); len(got) != 1 || got[0] != "- no  screen" {
		t.Errorf("without a width: %q, want one line", got)
	}
}

// TestColorIsNeverTheOnlySign: without it every word is there still.
func TestColorIsNeverTheOnlySign(t *testing.T) {
	s := troubled()
	colored, without := RenderStatus(s, false, Layout{Width: 100, Color: true}), RenderStatus(s, false, Layout{Width: 100})
	if !strings.Contains(colored, "\x1b[1;31m") {
		t.Error("nothing is red")
	}
	if strings.Contains(without, "\x1b") {
		t.Error("there is an escape sequence without color")
	}
	for _, code := range []look{title, good, bad, odd, faint, "0"} {
		colored = strings.ReplaceAll(colored, "\x1b["+string(code)+"m", "")
	}
	if diff := cmp.Diff(without, colored); diff != "" {
		t.Errorf("color changes the text (-without +with):\n%s", diff)
	}
}
