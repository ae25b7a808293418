package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/vip/guard"
)

// SayTime is for how long the program waits at its end for the reader of its log. A
// reader that reads takes less, and the program does not wait for any other.
const SayTime = 500 * time.Millisecond

// Log is the daemon's log. Nothing ever waits for its reader, and its level may be
// changed at any time.
type Log struct {
	*slog.Logger
	// Access is for the access log, whose lines do not take the room of other lines, nor
	// the time of whoever logs them: they have a queue of their own before they are text.
	Access *slog.Logger

	level  slog.LevelVar
	out    *quietlog.Writer
	events *report.Ring
}

// NewLog returns the log that the configuration asks for.
func NewLog(w io.Writer, cfg config.Log) (*Log, error) {
	l := &Log{events: report.NewRing(maxEvents)}
	if err := l.SetLevel(cfg.Level); err != nil {
		return nil, err
	}
	journal := toJournal(w)
	form := func(w io.Writer) slog.Handler { return newHandler(w, cfg.Format, &l.level, journal) }
	l.out = quietlog.NewWriter(w, quietlog.LostLine(form))
	l.Logger = slog.New(quietlog.Unblocked(&eventHandler{log: form(l.out), ring: l.events}))
	l.Access = quietlog.New(slog.New(form(l.out.Minor())))
	return l, nil
}

// newHandler makes a handler of the format "json" or "text", for the journal or not.
func newHandler(w io.Writer, format string, level slog.Leveler, journal bool) slog.Handler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: quietlog.Readable}
	form := func(w io.Writer) slog.Handler {
		if format == "json" {
			return slog.NewJSONHandler(w, opts)
		}
		return slog.NewTextHandler(w, opts)
	}
	if journal {
		return journalHandler(w, form)
	}
	return form(w)
}

// Main is to be called first in main: the guard of this program, which is the same
// program, logs in the daemon's form.
func Main() { guard.MainLog(newGuardHandler) }

// guardForm is what the guard is told of the log's form: see newGuardHandler.
func guardForm(cfg config.Log) string { return cfg.Format + " " + cfg.Level }

// newGuardHandler makes the log's handler in the guard, another process that has the
// same standard error.
func newGuardHandler(w io.Writer, form string) slog.Handler {
	format, word, _ := strings.Cut(form, " ")
	var level slog.Level
	_ = level.UnmarshalText([]byte(word)) // the daemon has checked it
	return newHandler(w, format, level, toJournal(os.Stderr))
}

// Events are those of the log's latest lines, at Info and above: whatever the log's level
// is, and whether somebody reads the log or not.
func (l *Log) Events() *report.Ring { return l.events }

// Level is the present level, in the configuration's words.
func (l *Log) Level() string { return strings.ToLower(l.level.Level().String()) }

// SetLevel goes on with another level.
func (l *Log) SetLevel(text string) error {
	if err := l.level.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("log level %q: want debug, info, warn or error", text)
	}
	return nil
}

// Flush gives the reader of the log SayTime to take what it has not taken yet.
func (l *Log) Flush() {
	// Lines that wait to be text get the time as well.
	for end := time.Now().Add(SayTime); !quietlog.Flush(l.Access) && time.Now().Before(end); {
	}
	l.out.Flush(SayTime)
}

// OutliveReader keeps a reader of the log that has gone from ending the process,
// as SIGPIPE does otherwise. Programs that the process starts keep the signal's
// default: a signal that is caught, in contrast to one that is ignored, is not
// inherited.
func OutliveReader() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody needs to hear of it
}
