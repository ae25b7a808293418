package monitor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options say what [Run] watches and what it prints.
type Options struct {
	// Interfaces are the ones to listen on. Default: those of the host that have a
	// carrier and stand for themselves.
	Interfaces []string
	// File is read in the place of interfaces; "-" is Stdin.
	File  string
	Stdin io.Reader
	Out   io.Writer
	JSON  bool // one object a line
	Quiet bool // no advertisements: only what changes, and summaries
	// Every is the time between summaries. Default: only one, at the end.
	Every       time.Duration
	Count       int           // advertisements after which to end; 0: no end
	Duration    time.Duration // after which to end; 0: no end
	ShowSecrets bool          // print passwords in clear
}

// source gives frames to a channel until it ends, or the context does.
type source func(ctx context.Context, frames chan<- Frame) error

// lag is how far the watch is behind the clock: what has been on the wire by then has been
// read.
const lag = 250 * time.Millisecond

// Run watches until the context, the file, or one of the bounds ends, and prints a summary
// then. It returns how many problems were found.
func Run(ctx context.Context, o Options) (problems int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := bufio.NewWriter(o.Out)
	r := &run{Options: o, watcher: NewWatcher(), out: out, printer: printer{out: out, json: o.JSON, quiet: o.Quiet}}
	r.watcher.ShowSecrets = o.ShowSecrets
	src, err := r.openOr(ctx)
	if src == nil {
		return 0, err
	}
	frames, failed := make(chan Frame, 1024), make(chan error, 1)
	go func() {
		defer close(frames)
		failed <- src(ctx, frames)
	}()
	if err := r.watch(ctx, frames); err != nil {
		return 0, err
	}
	ended := ctx.Err() != nil || r.done
	if err := r.finish(); err != nil {
		return 0, err
	}
	if !ended { // the source has; otherwise it may be waiting for input, for ever
		err = <-failed
	}
	return r.watcher.Problems(), err
}

// run is one Run.
type run struct {
	Options
	watcher *Watcher
	printer printer
	out     *bufio.Writer
	live    bool
	started time.Time // by the clock of the frames
	summary time.Time // when the next one is due, or zero
	done    bool      // a bound was reached
}

// openOr is open, unless the context ends before: a FIFO, or a pipe from a program that
// says nothing, may keep the reader waiting for ever. Without a source and an error it
// did.
func (r *run) openOr(ctx context.Context) (source, error) {
	var src source
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		src, err = r.open()
	}()
	select {
	case <-done:
		return src, err
	case <-ctx.Done():
		return nil, nil
	}
}

// open opens the file or the interfaces.
func (r *run) open() (source, error) {
	if r.File == "" {
		r.live = true
		c, names, err := openCapture(r.Interfaces)
		if err != nil {
			return nil, err
		}
		if len(names) == 1 {
			r.printer.only = names[0]
		}
		r.begin(time.Now())
		r.watcher.Tick(r.started)
		return c, nil
	}
	in := r.Stdin
	r.printer.relative = true
	if r.File != "-" {
		// The file is open until the program ends.
		f, err := os.Open(r.File)
		if err != nil {
			return nil, err
		}
		if st, err := f.Stat(); err == nil && st.IsDir() {
			f.Close()
			return nil, fmt.Errorf("%s: a directory: want a file of tcpdump -w or Wireshark", r.File)
		}
		in = f
	}
	next, err := openFile(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name(), err)
	}
	return func(ctx context.Context, frames chan<- Frame) error {
		for {
			f, err := next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.name(), err)
			}
			select {
			case frames <- f:
			case <-ctx.Done():
				return nil
			}
		}
	}, nil
}

func (r *run) name() string {
	if r.File == "-" {
		return "standard input"
	}
	return r.File
}

// begin starts the clock.
func (r *run) begin(at time.Time) {
	r.started, r.printer.start = at, at
	if r.Every > 0 {
		r.summary = at.Add(r.Every)
	}
}

// watch prints what the frames show until they end, the context does or a bound is
// reached.
func (r *run) watch(ctx context.Context, frames <-chan Frame) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !r.done {
		if len(frames) == 0 {
			if err := r.out.Flush(); err != nil {
				return err
			}
		}
		var tick <-chan time.Time
		if at := r.due(); r.live && !at.IsZero() {
			timer.Reset(time.Until(at) + lag)
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			if err := r.frame(f); err != nil {
				return err
			}
		case <-tick:
			if err := r.advance(time.Now().Add(-lag)); err != nil {
				return err
			}
		}
	}
	return nil
}

// due is when there is something to do without a frame, or zero.
func (r *run) due() (at time.Time) {
	list := []time.Time{r.watcher.Deadline(), r.summary}
	if r.Duration > 0 {
		list = append(list, r.started.Add(r.Duration))
	}
	for _, t := range list {
		if at.IsZero() || !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// advance goes to now, by the clock of the frames.
func (r *run) advance(now time.Time) error {
	for !r.summary.IsZero() && !r.summary.After(now) && !r.done {
		at := r.summary
		if err := r.events(r.watcher.Tick(at)); err != nil {
			return err
		}
		// after a long silence one summary is enough
		r.summary = at.Add(max(r.Every, now.Sub(at).Truncate(r.Every)))
		if err := r.printer.summary(r.watcher.Summary()); err != nil {
			return err
		}
	}
	if end := r.started.Add(r.Duration); r.Duration > 0 && !now.Before(end) {
		r.done = true
		return r.events(r.watcher.Tick(end))
	}
	return r.events(r.watcher.Tick(now))
}

// frame takes the next frame.
func (r *run) frame(f Frame) error {
	if r.started.IsZero() {
		r.begin(f.Time)
		if !r.JSON {
			fmt.Fprintf(r.out, "%s begins at %s\n", r.name(), f.Time.Format("2006-01-02 15:04:05.000000 MST"))
		}
	}
	if err := r.advance(f.Time); err != nil || r.done {
		return err
	}
	return r.events(r.watcher.Observe(f))
}

// events prints some, until a bound is reached.
func (r *run) events(list []Event) error {
	for i := range list {
		if err := r.printer.event(&list[i]); err != nil {
			return err
		}
	}
	if r.Count > 0 && r.watcher.heard >= r.Count {
		r.done = true
	}
	return nil
}

// finish prints what is left, and the summary.
func (r *run) finish() error {
	var list []Event
	if r.live && !r.done {
		list = r.watcher.Tick(time.Now().Add(-lag))
	}
	list = append(list, r.watcher.Finish()...)
	return errors.Join(r.events(list), r.printer.summary(r.watcher.Summary()), r.out.Flush())
}
