package report

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Layout is where values are shown.
type Layout struct {
	Width int            // columns of the screen; 0: as wide as the values need
	Color bool           // never the only sign of anything
	Zone  *time.Location // of times of day; nil: UTC
}

// clock prints a time of day, with its date and zone.
func (l Layout) clock(t time.Time) string {
	zone := l.Zone
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04:05.000 MST")
}

// look is how text looks: the parameters of SGR (ECMA-48 §8.3.117).
type look string

const (
	plain look = ""
	title look = "1"
	good  look = "32"
	bad   look = "1;31"
	odd   look = "33"
	faint look = "2"
)

// paint gives text a look.
func (l Layout) paint(how look, text string) string {
	if !l.Color || how == plain || text == "" {
		return text
	}
	return "\x1b[" + string(how) + "m" + text + "\x1b[0m"
}

// clean makes text fit for a terminal and one line: it may come from another host, in
// the error of a check, and must not steer the terminal.
func clean(text string) string {
	if !strings.ContainsFunc(text, notPrintable) && utf8.ValidString(text) {
		return text
	}
	text = strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "; ")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case notPrintable(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) }

// columns counts those that text takes. Each character is taken for one column wide.
func columns(text string) int { return utf8.RuneCountInString(text) }

// ellipsis stands for what is left out. ASCII, for consoles without UTF-8.
const ellipsis = "..."

// shorten cuts text to a width: its end, or the middle of a name, whose end tells it
// from its neighbours.
func shorten(text string, width int, middle bool) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	if width <= len(ellipsis) {
		return string(runes[:max(width, 0)])
	}
	keep := width - len(ellipsis)
	if !middle {
		return strings.TrimRight(string(runes[:keep]), " ") + ellipsis
	}
	head := keep / 2
	return string(runes[:head]) + ellipsis + string(runes[len(runes)-(keep-head):])
}

// fitList joins as many words of a list as fit, and counts the rest.
func fitList(list []string, width int) string {
	text := strings.Join(list, " ")
	for n := len(list) - 1; n > 0 && columns(text) > width; n-- {
		text = strings.Join(list[:n], " ") + " +" + count(uint64(len(list)-n))
	}
	return shorten(text, width, false)
}

// wrap breaks text between words. The first line begins with head, the others with as
// many blanks. A word that is longer than a line is broken, as a terminal would do.
func wrap(head, text string, width int) []string {
	indent := strings.Repeat(" ", columns(head))
	if width <= 0 {
		return []string{strings.TrimRight(head+text, " ")}
	}
	if width-len(indent) < 20 { // a long name leaves no room beside it
		head, text, indent = "", head+text, ""
	}
	room := width - len(indent)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && columns(line)+1+columns(word) > room {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			word = line + " " + word
		}
		for line = word; columns(line) > room; {
			runes := []rune(line)
			lines, line = append(lines, string(runes[:room])), string(runes[room:])
		}
	}
	lines = append(lines, line)
	for i := range lines {
		if i > 0 {
			head = indent
		}
		lines[i] = strings.TrimRight(head+lines[i], " ")
	}
	return lines
}
