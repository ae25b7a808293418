package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Show is something that was fetched, as text for a screen of a width; 0: no screen.
type Show func(width int) string

// Watch shows something again and again, until a person quits or the context ends.
type Watch struct {
	// Title is the footer's begin.
	Title string
	// Interval is between two fetches. Changed, which may be nil, asks for the next one
	// earlier.
	Interval time.Duration
	Changed  <-chan struct{}
	// Fetch may take its time: the screen answers keys meanwhile.
	Fetch func(ctx context.Context) Show
}

const (
	// pause is at least between two fetches, however fast things change.
	pause = 200 * time.Millisecond
	// look is how often the screen's size is asked for. A signal would tell at once, but
	// not on every system, and not from every terminal.
	look = 250 * time.Millisecond
)

// fetch hands over what Fetch returns, until ctx ends.
func (w Watch) fetch(ctx context.Context, shows chan<- Show) {
	for ctx.Err() == nil {
		select {
		case shows <- w.Fetch(ctx):
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(w.Interval - pause):
		case <-w.Changed:
		case <-ctx.Done():
		}
	}
}

// Repeat prints each text below the one before it: for what is no terminal.
func (w Watch) Repeat(ctx context.Context, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	shows := make(chan Show)
	var fetching sync.WaitGroup
	fetching.Go(func() { w.fetch(ctx, shows) })
	defer fetching.Wait()
	defer stop()
	for {
		select {
		case show := <-shows:
			if _, err := io.WriteString(out, show(0)+"\n"); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Run draws on the terminal that in and out are. It leaves the terminal as it was.
func (w Watch) Run(ctx context.Context, in, out *os.File) error {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }() // best effort, as is the next one
	if _, err := out.WriteString(enter); err != nil {
		return err
	}
	defer func() { _, _ = out.WriteString(leave) }()

	ctx, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	s := &screen{watch: w, out: out}
	shows, typed := make(chan Show), make(chan []byte)
	parts.Go(func() { w.fetch(ctx, shows) })
	readKeys(ctx, &parts, in, typed)
	return s.loop(ctx, shows, typed)
}

// screen is what is drawn.
type screen struct {
	watch      Watch
	out        *os.File
	show       Show
	at         time.Time // when show was fetched
	text       string
	cols, rows int    // that lines may take: one column less than the screen has, see frame
	first      int    // line that is shown
	rest       []byte // of a key that has not come completely
}

func (s *screen) loop(ctx context.Context, shows <-chan Show, typed <-chan []byte) error {
	size := time.NewTicker(look)
	defer size.Stop()
	s.resize()
	for {
		redraw := true
		select {
		case <-ctx.Done():
			return nil
		case s.show = <-shows:
			s.at = time.Now()
			s.text = s.show(s.cols)
		case bytes := <-typed:
			if s.press(bytes) {
				return nil
			}
		case <-size.C:
			redraw = s.resize()
		}
		if !redraw {
			continue
		}
		if err := s.draw(); err != nil {
			return err
		}
	}
}

// resize takes in the screen's size, and reports whether it is another one.
func (s *screen) resize() bool {
	cols, rows, err := term.GetSize(int(s.out.Fd()))
	cols = max(cols-1, 1)
	if err != nil || cols == s.cols && rows == s.rows {
		return false
	}
	s.cols, s.rows = cols, rows
	if s.show != nil {
		s.text = s.show(cols)
	}
	return true
}

// press follows keys, and reports whether one of them ends it all.
func (s *screen) press(bytes []byte) bool {
	list, rest := parseKeys(append(s.rest, bytes...))
	s.rest = append([]byte(nil), rest...)
	for _, k := range list {
		if k == keyQuit {
			return true
		}
		s.first = scroll(s.first, k, len(split(s.text)), s.rows)
	}
	return false
}

func (s *screen) draw() error {
	lines := len(split(s.text))
	s.first = scroll(s.first, 0, lines, s.rows) // there may be fewer lines than before
	footer := " " + s.watch.Title
	if !s.at.IsZero() {
		footer += ", " + s.at.Format(time.TimeOnly)
	}
	if shown := max(s.rows-1, 0); lines > shown {
		footer += fmt.Sprintf(", lines %d-%d of %d, arrows scroll", s.first+1, min(s.first+shown, lines), lines)
	}
	footer += ", q quits "
	if len(footer) > s.cols {
		footer = footer[:s.cols]
	}
	_, err := s.out.WriteString(frame(s.text, s.first, s.rows, footer+strings.Repeat(" ", s.cols-len(footer))))
	return err
}

// readKeys hands over what is typed. A terminal that cannot be opened once more keeps its
// reader until the process ends: such a read cannot be interrupted.
func readKeys(ctx context.Context, parts *sync.WaitGroup, in *os.File, typed chan<- []byte) {
	read := func(f *os.File) {
		for {
			buf := make([]byte, 64)
			n, err := f.Read(buf)
			if err != nil {
				return // without keys the screen still shows what there is
			}
			select {
			case typed <- buf[:n]:
			case <-ctx.Done():
				return
			}
		}
	}
	own, err := os.OpenFile(fmt.Sprintf("/dev/fd/%d", in.Fd()), os.O_RDONLY, 0)
	if err == nil && own.SetReadDeadline(time.Time{}) != nil {
		_ = own.Close() // a read without deadlines is no better there
		err = os.ErrNoDeadline
	}
	if err != nil {
		go read(in)
		return
	}
	parts.Go(func() {
		read(own)
		_ = own.Close()
	})
	parts.Go(func() {
		<-ctx.Done()
		_ = own.SetReadDeadline(time.Unix(1, 0))
	})
}
