package lb

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// openWithin is how long it may take to open a file, on a network maybe.
const openWithin = 5 * time.Second

// open opens the file.
func (l *AccessLog) open() (*logSink, error) {
	if l.cfg.Path == "" {
		s := newLogSink()
		s.w = l.cfg.Writer
		return s, nil
	}
	type opened struct {
		s   *logSink
		err error
	}
	got := make(chan opened, 1)
	go func() {
		s, err := l.openFile()
		got <- opened{s, err}
	}()
	select {
	case o := <-got:
		return o.s, o.err
	case <-time.After(openWithin):
		go func() {
			if o := <-got; o.s != nil {
				o.s.close()
			}
		}()
		return nil, fmt.Errorf("lb: access log: open %s: took more than %v: want a file that answers", l.cfg.Path, openWithin)
	}
}

// openFile opens the file, however long that takes.
func (l *AccessLog) openFile() (*logSink, error) {
	f, err := openAppend(l.cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("lb: access log: %w: want a file that can be written, in a folder that is there", err)
	}
	s := newLogSink()
	if s.w, s.file = f, f; !isRegular(f) {
		s.piece = pipePiece
	}
	return s, nil
}

// openAppend opens a file for lines. A FIFO is opened for reading as well: so it needs no
// reader, and has no end when one leaves.
func openAppend(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

func isRegular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// Reopen goes on with a file that is opened anew, after the old one was moved away, say. On
// error all goes on with the old file, and the new one is tried again until it can be opened.
func (l *AccessLog) Reopen() error {
	if l.cfg.Path == "" {
		return nil
	}
	next, err := l.open()
	if err != nil {
		l.awaitFile(err)
		return err
	}
	return l.goOn(next)
}

// goOn writes to next from now on.
func (l *AccessLog) goOn(next *logSink) error {
	l.mu.Lock()
	old, waiting := l.sink, len(l.pending) > 0
	if old != nil {
		l.sink, l.shut, next.awake = next, nil, waiting
		l.loses.Store(nil)
	}
	l.mu.Unlock()
	if old == nil {
		next.close()
		return fmt.Errorf("lb: access log %s: %w", l.cfg.Path, ErrClosed)
	}
	if waiting {
		next.wake <- struct{}{}
	}
	old.retire()
	go l.write(next)
	return nil
}

// awaitFile has the file opened as soon as it can be. err is why it could not.
func (l *AccessLog) awaitFile(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sink == nil {
		return // closed
	}
	if l.shut = err; !l.trying {
		l.trying = true
		go l.openLater()
	}
}

// openLater tries to open the file until it is open. It waits for a file on a network that
// hangs rather than to begin another attempt.
func (l *AccessLog) openLater() {
	for l.mayTry() {
		select {
		case <-l.closed:
			return
		case <-time.After(againAfter):
		}
		next, err := l.openFile()
		switch {
		case err != nil:
			l.awaitFile(err)
		case l.goOn(next) == nil:
			l.log.Info("access log is opened at last", "file", l.name(), "lost", l.lost.Load())
		}
	}
}

// mayTry reports whether the file is still to be opened, and ends openLater otherwise.
func (l *AccessLog) mayTry() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trying = l.sink != nil && l.shut != nil
	return l.trying
}

// shutFile stands for a file that could not be opened. All its lines are lost.
type shutFile struct{ err error }

func (f shutFile) Write([]byte) (int, error) { return 0, f.err }
