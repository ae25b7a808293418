package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/lb"
)

// stream returns a file, and makes it the journal or not.
func stream(t *testing.T, journal bool) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	variable := deviceAndInode(f)
	if !journal {
		variable += "1"
	}
	t.Setenv("JOURNAL_STREAM", variable)
	return f
}

// flush waits until a log is written, for longer than the program would.
func flush(t *testing.T, l *Log) {
	t.Helper()
	if !l.out.Flush(30 * time.Second) {
		t.Fatal("the log is not written")
	}
}

// written are the lines of a file.
func written(t *testing.T, f *os.File) []string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// TestJournalPriorities: what the journal reads begins with its priority in each
// format, and nothing else does.
func TestJournalPriorities(t *testing.T) {
	forms := map[string]string{"text": `time=\S+ level=%s msg=\w+ router=VI_1`, "json": `\{"time":"[^"]+","level":"%s","msg":"\w+","router":"VI_1"\}`}
	for format, form := range forms {
		for _, journal := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, journal %v", format, journal), func(t *testing.T) {
				f := stream(t, journal)
				l, err := NewLog(f, config.Log{Level: "debug", Format: format})
				if err != nil {
					t.Fatal(err)
				}
				log := l.With("router", "VI_1")
				log.Debug("one")
				log.Info("two")
				log.Warn("three")
				log.Error("four")
				flush(t, l)
				lines := written(t, f)
				for i, want := range []struct{ prefix, level string }{{"<7>", "DEBUG"}, {"<6>", "INFO"}, {"<4>", "WARN"}, {"<3>", "ERROR"}} {
					if !journal {
						want.prefix = ""
					}
					if re := regexp.MustCompile("^" + want.prefix + fmt.Sprintf(form, want.level) + "$"); i >= len(lines) || !re.MatchString(lines[i]) {
						t.Errorf("line %d of %q, want %v", i+1, lines, re)
					}
				}
			})
		}
	}
}

// slowText is a value that takes its time to become text.
type slowText chan struct{}

func (s slowText) LogValue() slog.Value {
	<-s
	return slog.StringValue("text")
}

// TestAccessTakesNoTime: who logs an access does not wait until the line is text.
func TestAccessTakesNoTime(t *testing.T) {
	f := stream(t, false)
	l, err := NewLog(f, config.Log{Level: "info", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	let, logged := make(slowText), make(chan struct{})
	go func() {
		l.Access.Info("connection", "value", let)
		close(logged)
	}()
	select {
	case <-logged:
	case <-time.After(30 * time.Second):
		t.Error("it waits for the text")
	}
	close(let)
	until(t, "the line is written", func() bool { return strings.HasSuffix(written(t, f)[0], "msg=connection value=text") })
}

// TestAccessBurst: the log has room for what is recorded when thousands of connections
// end at the same time, however long the lines wait until they are text.
func TestAccessBurst(t *testing.T) {
	f := stream(t, false)
	l, err := NewLog(f, config.Log{Level: "info", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	let := make(slowText)
	record, _ := lb.LogRecords(l.Access)
	l.Access.Info("first", "value", let)
	for range 2000 { // as much text as the rest of the log leaves room for
		record(lb.Record{Service: "web"})
	}
	close(let)
	until(t, "all lines are written", func() bool { return len(written(t, f)) > 2000 })
}

// TestJournalLost: the line that owns up to lost ones has a priority, too.
func TestJournalLost(t *testing.T) {
	line := quietlog.LostLine(func(w io.Writer) slog.Handler { return newHandler(w, "json", slog.LevelInfo, true) })(3)
	if !strings.HasPrefix(string(line), `<4>{"time":`) {
		t.Errorf("line %q, want <4>", line)
	}
}

// TestJournalLastWords: each line of the error that ends the program is an error
// for the journal.
func TestJournalLastWords(t *testing.T) {
	why := errors.Join(errors.New("havip.yaml:1:1: one"), errors.New("havip.yaml:2:1: two"))
	for journal, want := range map[bool]string{
		true:  "<3>havip.yaml:1:1: one|<3>havip.yaml:2:1: two",
		false: "havip.yaml:1:1: one|havip.yaml:2:1: two",
	} {
		f := stream(t, journal)
		SayError(f, why)
		if got := strings.Join(written(t, f), "|"); got != want {
			t.Errorf("journal %v: %q, want %q", journal, got, want)
		}
	}
}

// TestGuardSpeaksAsTheDaemon: the guard's handler has the daemon's format and level.
func TestGuardSpeaksAsTheDaemon(t *testing.T) {
	for _, tt := range []struct {
		cfg  config.Log
		want string
	}{
		{config.Log{Format: "json", Level: "info"}, `{"time":`},
		{config.Log{Format: "text", Level: "warn"}, "time="},
		{config.Log{Format: "text", Level: "error"}, ""},
	} {
		var b strings.Builder
		slog.New(newGuardHandler(&b, guardForm(tt.cfg))).Warn("died")
		if !strings.HasPrefix(b.String(), tt.want) || tt.want == "" && b.Len() > 0 {
			t.Errorf("%+v: says %q, want %q", tt.cfg, b.String(), tt.want)
		}
	}
}
