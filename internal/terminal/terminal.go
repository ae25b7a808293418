// Package terminal is the person's side of the commands: how wide the screen is, whether
// it may have colors, and a screen that shows something again and again.
//
// The screen is made by hand of eight control sequences, which every terminal of the last
// thirty years has: whole lines are drawn from the upper left corner, each clears what is
// left of the line before it. golang.org/x/term knows the terminal's size and its raw mode.
package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Width returns the columns of the screen that w is; 0: it is no screen.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Color reports whether w is a terminal whose person has not asked for text without
// color. getenv is os.Getenv. See https://no-color.org.
func Color(w io.Writer, getenv func(string) string) bool {
	return Width(w) > 0 && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// CanWatch reports whether in and out are a terminal that a Watch can draw on.
func CanWatch(in, out *os.File) bool {
	return term.IsTerminal(int(in.Fd())) && Width(out) > 0 && os.Getenv("TERM") != "dumb"
}
