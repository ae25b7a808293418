package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/havip/havip/internal/quietlog"
)

// toJournal reports whether w is a file that systemd's journal reads: the variable
// has its device and inode (systemd.exec(5)). A program that has sent its standard
// error elsewhere inherits the variable all the same.
func toJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	variable := os.Getenv("JOURNAL_STREAM")
	return variable != "" && variable == deviceAndInode(f)
}

// priorities are how the journal knows a line's level (sd-daemon(3)). The journal
// takes them off the line.
var priorities = [...]struct {
	level  slog.Level // and above
	prefix string
}{
	{slog.LevelError, "<3>"},
	{slog.LevelWarn, "<4>"},
	{slog.LevelInfo, "<6>"},
	{slog.LevelDebug, "<7>"},
}

// priorityOf is the index in priorities of a level.
func priorityOf(level slog.Level) int {
	for i, p := range priorities {
		if level >= p.level {
			return i
		}
	}
	return len(priorities) - 1
}

// byPriority writes each record with the handler of its priority.
type byPriority [len(priorities)]slog.Handler

// journalHandler returns a handler in the given form that begins each line with its
// priority.
func journalHandler(w io.Writer, form func(io.Writer) slog.Handler) slog.Handler {
	var h byPriority
	for i, p := range priorities {
		h[i] = form(prefixed{w, p.prefix})
	}
	return h
}

func (h byPriority) Enabled(ctx context.Context, level slog.Level) bool {
	return h[priorityOf(level)].Enabled(ctx, level)
}

func (h byPriority) Handle(ctx context.Context, r slog.Record) error {
	return h[priorityOf(r.Level)].Handle(ctx, r)
}

func (h byPriority) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (h byPriority) WithGroup(name string) slog.Handler {
	return h.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (h byPriority) each(f func(slog.Handler) slog.Handler) byPriority {
	for i := range h {
		h[i] = f(h[i])
	}
	return h
}

// prefixed puts a prefix in front of each line; slog writes one line at a time.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p prefixed) Write(line []byte) (int, error) {
	_, err := p.w.Write(append([]byte(p.prefix), line...))
	return len(line), err
}

// SayError says on f why the program ends, and waits SayTime at most for whoever
// reads it.
func SayError(f *os.File, why error) {
	quietlog.Say(f, lastWords(why, toJournal(f)), SayTime)
}

// lastWords are the lines of an error, as the journal wants them.
func lastWords(why error, journal bool) string {
	prefix := ""
	if journal {
		prefix = priorities[priorityOf(slog.LevelError)].prefix
	}
	return prefix + strings.ReplaceAll(why.Error(), "\n", "\n"+prefix) + "\n"
}
