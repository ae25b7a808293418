package quietlog

import (
	"fmt"
	"log/slog"
	"strings"
)

// Readable is a ReplaceAttr for [slog.HandlerOptions] that gives values the same words in
// all formats: a duration is 1.5s and not a number of nanoseconds, a value with a String
// method is what that returns, and an error is one line, also an error of errors.Join.
func Readable(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value; v.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(v.Duration().String())
	case slog.KindAny:
		a.Value = readable(v)
	}
	return a
}

// readable calls methods of foreign values. If a method panics, as some do for nil, the
// value is left to the handler, which recovers from such panics.
func readable(v slog.Value) (out slog.Value) {
	defer func() {
		if recover() != nil {
			out = v
		}
	}()
	switch x := v.Any().(type) {
	case error:
		return slog.StringValue(oneLine(x.Error()))
	case fmt.Stringer:
		return slog.StringValue(x.String())
	}
	return v
}

// oneLine puts a semicolon where a line ends and another one begins.
func oneLine(text string) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
