package quietlog

import (
	"fmt"
	"log/slog"
	"strings"
)

// Readable is a ReplaceAttr for [slog.HandlerOptions] that makes the values of all
// formats the same words: durations such as 1.5s instead of nanoseconds, what has a
// String method as that says it instead of a number, and errors in one line, which
// those of errors.Join are not.
func Readable(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value; v.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(v.Duration().String())
	case slog.KindAny:
		a.Value = readable(v)
	}
	return a
}

// readable calls methods of foreign values, some of which panic for nil: those are
// left to the handler, which knows how to deal with that.
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
