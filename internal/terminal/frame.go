package terminal

import (
	"strings"
)

// Control sequences: of xterm, and of whatever else is called a terminal today.
const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, lines are cut at the right
	leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	erase = "\x1b[K" // to the end of the line
	below = "\x1b[J" // to the end of the screen
	// A terminal that knows these shows all of a frame at once; others skip them.
	hold    = "\x1b[?2026h"
	release = "\x1b[?2026l"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
)

// frame is the bytes that show text from a line on, on a screen of so many rows, with a
// footer in the last row. A frame is written at once and clears nothing that it does not
// draw again, so that nothing flickers. Lines leave the last column free: the cursor stays
// in it behind a full line, and what clears the rest would clear the last character.
func frame(text string, first, rows int, footer string) string {
	lines := split(text)
	out := &strings.Builder{}
	out.WriteString(hold + home)
	for i := range max(rows-1, 0) {
		if first+i < len(lines) {
			out.WriteString(lines[first+i])
		}
		out.WriteString(erase + "\r\n")
	}
	out.WriteString(reverse + footer + plain + erase + below + release)
	return out.String()
}

func split(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// key is what a person wants.
type key int

const (
	keyQuit key = iota + 1
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyTop
	keyEnd
)

// keys are the bytes that terminals send, with vi's and less's letters.
var keys = map[string]key{
	"q": keyQuit, "Q": keyQuit, "\x03": keyQuit, // that is Ctrl-C
	"k": keyUp, "\x1b[A": keyUp, "\x1bOA": keyUp,
	"j": keyDown, "\x1b[B": keyDown, "\x1bOB": keyDown, "\r": keyDown,
	"b": keyPageUp, "\x1b[5~": keyPageUp,
	" ": keyPageDown, "f": keyPageDown, "\x1b[6~": keyPageDown,
	"g": keyTop, "\x1b[H": keyTop, "\x1bOH": keyTop, "\x1b[1~": keyTop,
	"G": keyEnd, "\x1b[F": keyEnd, "\x1bOF": keyEnd, "\x1b[4~": keyEnd,
}

// parseKeys takes the keys from what was typed, and returns what may be the beginning of
// one that has not come completely. What is no key is skipped.
func parseKeys(typed []byte) (list []key, rest []byte) {
	for len(typed) > 0 {
		n := sequence(typed)
		if n == 0 {
			return list, typed
		}
		if k, ok := keys[string(typed[:n])]; ok {
			list = append(list, k)
		}
		typed = typed[n:]
	}
	return list, nil
}

// sequence is the length of the first byte or control sequence; 0: it is not complete.
func sequence(typed []byte) int {
	const longest = 16 // of those that keyboards send
	if typed[0] != '\x1b' {
		return 1
	}
	if len(typed) == 1 {
		return 0
	}
	if typed[1] == 'O' {
		if len(typed) == 2 {
			return 0
		}
		return 3
	}
	if typed[1] != '[' {
		return 1 // the Escape key, and then another one
	}
	for i, b := range typed[2:min(len(typed), longest)] {
		if b >= '@' && b <= '~' { // the final byte, ECMA-48 §5.4
			return i + 3
		}
	}
	if len(typed) >= longest {
		return longest
	}
	return 0
}

// scroll returns the first line to show after a key.
func scroll(first int, k key, lines, rows int) int {
	page := max(rows-2, 1) // one line stays
	switch k {
	case keyUp:
		first--
	case keyDown:
		first++
	case keyPageUp:
		first -= page
	case keyPageDown:
		first += page
	case keyTop:
		first = 0
	case keyEnd:
		first = lines
	}
	return max(0, min(first, lines-(rows-1)))
}
