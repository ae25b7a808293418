package terminal

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/havip/havip/internal/lab"
)

// pseudo is a terminal: what a person would see, and the side of the program.
type pseudo struct {
	person, program *os.File
	mu              sync.Mutex // guards seen
	seen            strings.Builder
}

func openPseudo(t *testing.T) *pseudo {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lab.Lacking(t, "no pseudo terminal: "+err.Error())
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	p := &pseudo{person: person, program: program}
	p.resize(t, 80, 24)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := person.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
		}
	}()
	return p
}

func (p *pseudo) resize(t *testing.T, cols, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(p.person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func (p *pseudo) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

func (p *pseudo) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.person.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// wait waits until a condition holds.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// TestWatch draws, follows the size and keys, asks again when something has changed, and
// leaves the terminal as it was.
func TestWatch(t *testing.T) {
	p := openPseudo(t)
	before, err := term.GetState(int(p.program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{})
	fetched := 0
	w := Watch{Title: "havip", Interval: time.Hour, Changed: changed, Fetch: func(context.Context) Show {
		fetched++
		n := fetched
		return func(width int) string {
			return fmt.Sprintf("fetched %d for %d columns\n%s", n, width, strings.Repeat("line\n", 100))
		}
	}}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context(), p.program, p.program) }()
	sees := func(part string) {
		t.Helper()
		wait(t, part, func() bool { return strings.Contains(p.text(), part) })
	}
	sees("fetched 1 for 79 columns")
	sees("lines 1-23 of 101")
	p.resize(t, 100, 30)
	sees("fetched 1 for 99 columns")
	changed <- struct{}{}
	sees("fetched 2 for 99 columns")
	p.press(t, "\x1b[")
	p.press(t, "Bj")
	sees("lines 3-31 of 101")
	p.press(t, "q")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wait(t, "the end", func() bool { return strings.HasSuffix(p.text(), leave) })
	if !strings.HasPrefix(p.text(), enter) {
		t.Errorf("begins with %.40q, want %q", p.text(), enter)
	}
	after, err := term.GetState(int(p.program.Fd()))
	if err != nil || *after != *before {
		t.Errorf("state of the terminal %v, %v, want %v", after, err, before)
	}
}

// TestWatchEndsWhileFetching: a daemon that does not answer keeps nobody.
func TestWatchEndsWhileFetching(t *testing.T) {
	for name, end := range map[string]func(*pseudo, func()){
		"a key":   func(p *pseudo, _ func()) { p.press(t, "\x03") },
		"context": func(_ *pseudo, stop func()) { stop() },
	} {
		t.Run(name, func(t *testing.T) {
			p := openPseudo(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			fetching := make(chan struct{})
			w := Watch{Title: "havip", Interval: time.Second, Fetch: func(ctx context.Context) Show {
				close(fetching)
				<-ctx.Done()
				return func(int) string { return "" }
			}}
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx, p.program, p.program) }()
			<-fetching
			end(p, stop)
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("does not end")
			}
		})
	}
}

// TestColor: on a terminal, unless its person or its kind is against it.
func TestColor(t *testing.T) {
	p := openPseudo(t)
	for env, want := range map[string]bool{"": true, "NO_COLOR=1": false, "TERM=dumb": false, "TERM=xterm": true} {
		name, value, _ := strings.Cut(env, "=")
		getenv := func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		}
		if got := Color(p.program, getenv); got != want {
			t.Errorf("with %q: color %v, want %v", env, got, want)
		}
	}
	if got := Width(p.program); got != 80 {
		t.Errorf("%d columns, want 80", got)
	}
}
