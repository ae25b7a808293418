package healthcheck

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// slowLog is a slow log that others use too.
type slowLog struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *slowLog) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *slowLog) text() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

// TestCauseBeforeConsequence: what a subscriber logs of a change comes after the
// change.
func TestCauseBeforeConsequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out slowLog
		log := slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, nil)))
		f := newTarget(everySecond)
		m, stop := startMonitor(t, Config{Name: "web", Checker: f, Rise: 1, Fall: 1, Logger: log})
		time.Sleep(500 * ms)
		m.Subscribe(func(s Status) {
			if s.State != Unknown {
				out.mu.Lock()
				defer out.mu.Unlock()
				out.WriteString("consequence of " + s.State.String() + "\n")
			}
		})
		time.Sleep(5000 * ms)
		_ = stop()
		var words []string
		for line := range strings.Lines(out.text()) {
			switch {
			case strings.Contains(line, "check is"):
				words = append(words, "check")
			case strings.Contains(line, "consequence"):
				words = append(words, "consequence")
			}
		}
		if got, want := strings.Join(words, " "), strings.TrimSpace(strings.Repeat("check consequence ", 6)); got != want {
			t.Errorf("%s, want %s:\n%s", got, want, out.text())
		}
	})
}

// TestLogNamesTarget: the line that a check is up names what was checked, but no secret. An
// error names it anyway.
func TestLogNamesTarget(t *testing.T) {
	for want, c := range map[string]Checker{
		"tcp 192.0.2.1:80":                          TCP{Address: "192.0.2.1:80"},
		"udp 192.0.2.1:53":                          UDP{Address: "192.0.2.1:53"},
		"tls 192.0.2.1:443":                         TLS{Address: "192.0.2.1:443"},
		"smtp 192.0.2.1:25":                         SMTP{Address: "192.0.2.1:25"},
		"grpc 192.0.2.1:80":                         GRPC{Address: "192.0.2.1:80"},
		"icmp 192.0.2.1":                            ICMP{Address: "192.0.2.1"},
		"dns 192.0.2.1:53 www.example":              DNS{Server: "192.0.2.1:53", Name: "www.example"},
		"http http://me:xxxxx@192.0.2.1/health?...": HTTP{URL: "http://me:secret@192.0.2.1/health?key=secret"},
		"http URL":                                  HTTP{URL: "http://me:secret@[/"},
		"exec /bin/check":                           Exec{Path: "/bin/check", Args: []string{"--password", "secret"}},
		"file /run/maintenance":                     File{Path: "/run/maintenance"},
		"process nginx":                             Process{Name: "nginx"},
		"process /run/nginx.pid":                    Process{Name: "nginx", PIDFile: "/run/nginx.pid"},
		"interface eth1":                            Interface{Name: "eth1"},
		"gateway 192.0.2.254 on eth1":               Gateway{Interface: "eth1", Address: netip.MustParseAddr("192.0.2.254")},
	} {
		if got := fmt.Sprint(c); got != want {
			t.Errorf("%T is called %q, want %q", c, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var out slowLog
		file := filepath.Join(t.TempDir(), "up")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, stop := startMonitor(t, Config{Name: "web", Checker: statOnly{File{Path: file}}, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		time.Sleep(1500 * ms)
		_ = stop()
		if want := `msg="check is up" check=web target="file ` + file + `" latency=`; !strings.Contains(out.text(), want) {
			t.Errorf("the log says %q, want %q", out.text(), want)
		}
	})
}

// statOnly hides that a File hears of events, which virtual time does not know.
type statOnly struct{ file File }

func (c statOnly) Check(ctx context.Context) error { return c.file.Check(ctx) }
func (c statOnly) String() string                  { return c.file.String() }

// TestProbesAtDebug: at level Debug the log has each probe with its duration.
func TestProbesAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out slowLog
		log := slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		f := newTarget(func(ctx context.Context, n int) error {
			if n == 2 {
				return after(ctx, 20*ms, errTest)
			}
			return after(ctx, 10*ms, nil)
		})
		_, stop := startMonitor(t, Config{Name: "web", Checker: f, Logger: log})
		time.Sleep(3500 * ms)
		_ = stop()
		want := []string{
			`level=INFO msg="check is up" check=web latency=10ms`,
			`level=DEBUG msg="probe succeeded" check=web state=up successes=2 latency=10ms`,
			`level=DEBUG msg="probe failed" check=web state=up failures=1 latency=20ms err="test: target is broken"`,
			`level=DEBUG msg="probe succeeded" check=web state=up successes=1 latency=10ms`,
		}
		var got []string
		for line := range strings.Lines(out.text()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
			got = append(got, line)
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		handler := slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		f := newTarget(func(_ context.Context, n int) error {
			if n > 0 {
				return errTest
			}
			return nil
		})
		_, stop := startMonitor(t, Config{Name: "web", Checker: f, Logger: slog.New(handler)})
		time.Sleep(10500 * ms)
		_ = stop()
		want := "level=INFO msg=\"check is up\" check=web latency=0s\n" +
			"level=WARN msg=\"check is down\" check=web err=\"test: target is broken\"\n"
		if buf.String() != want {
			t.Errorf("log:\n%swant:\n%s", buf.String(), want)
		}
	})
}
