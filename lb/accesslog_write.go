package lb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

// logSink is an open file of an access log. A goroutine of its own writes to it: one that hangs
// in a file is left behind when there is another file.
type logSink struct {
	w       io.Writer
	file    *os.File // that w is; nil: none
	piece   int      // how much is written at once, of whole lines; 0: any number of bytes
	wake    chan struct{}
	hurry   chan struct{}
	retired chan struct{}
	awake   bool // wake has an entry, or the goroutine writes; AccessLog.mu guards it
	torn    bool // the latest line was written in part only
}

// pipePiece is what pipes take whole: other writers' lines come before or after it (PIPE_BUF).
const pipePiece = 4096

func newLogSink() *logSink {
	return &logSink{wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), retired: make(chan struct{})}
}

// close closes the file.
func (s *logSink) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// hasten has the goroutine write at once.
func (s *logSink) hasten() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// retire ends the goroutine. One that waits for the reader of a FIFO is interrupted.
func (s *logSink) retire() {
	close(s.retired)
	if s.file != nil {
		time.AfterFunc(flushWithin, s.close)
	}
}

// queue has a line written, or loses it.
func (l *AccessLog) queue(line []byte) {
	l.mu.Lock()
	s := l.sink
	fits := s != nil && len(l.pending)+len(line) <= l.cfg.Buffer
	wakes := fits && !s.awake
	if fits {
		l.pending = append(l.pending, line...)
		s.awake = true
	}
	l.mu.Unlock()
	switch {
	case wakes:
		s.wake <- struct{}{}
	case !fits && s != nil:
		l.lose(1, errUnread)
	}
}

// errUnread is why lines are lost for which there is no room.
var errUnread = errors.New("nobody takes its lines fast enough")

const (
	// gatherFor is the shortest time between two writes: what comes meanwhile is written
	// together.
	gatherFor = 10 * time.Millisecond
	// againAfter is the time after which a file is tried again that has not taken a line.
	againAfter = time.Second
	// keptLines is how much memory for lines that wait is kept.
	keptLines = 256 << 10
)

// write writes to s what is queued, until s has retired.
func (l *AccessLog) write(s *logSink) {
	defer s.close()
	for {
		select {
		case <-s.retired:
			return
		case <-s.wake:
		}
		for lines := l.take(s); lines != nil; lines = l.take(s) {
			err := s.append(lines, l.lose)
			if err == nil {
				l.sayRecovered()
			}
			l.give(lines)
			s.pause(err)
		}
	}
}

// take returns the lines that wait; nil: there are none for s.
func (l *AccessLog) take(s *logSink) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sink != s {
		return nil
	}
	if len(l.pending) == 0 {
		s.awake = false
		return nil
	}
	lines := l.pending
	l.pending, l.spare = l.spare[:0], nil
	l.busy++
	return lines
}

// give takes the memory of lines that were written back.
func (l *AccessLog) give(lines []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(lines) <= keptLines {
		l.spare = lines
	}
	if l.busy--; l.busy == 0 && len(l.pending) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// pause waits between two writes.
func (s *logSink) pause(err error) {
	d := gatherFor
	if err != nil {
		d = againAfter
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.hurry:
	case <-s.retired:
	}
}

// append writes lines. lose gets the number of those that were not taken.
func (s *logSink) append(lines []byte, lose func(int, error)) error {
	for len(lines) > 0 {
		n := len(lines)
		if s.piece > 0 && n > s.piece {
			if end := bytes.LastIndexByte(lines[:s.piece], '\n'); end >= 0 {
				n = end + 1
			} else {
				n = bytes.IndexByte(lines, '\n') + 1
			}
		}
		if s.torn { // what comes next is not the rest of a line
			if _, err := s.w.Write([]byte("\n")); err != nil {
				lose(bytes.Count(lines, []byte("\n")), err)
				return err
			}
			s.torn = false
		}
		done, err := s.w.Write(lines[:n])
		if err == nil && done < n {
			err = io.ErrShortWrite
		}
		if err != nil {
			done = min(max(done, 0), n)
			s.torn = done > 0 && lines[done-1] != '\n'
			lose(bytes.Count(lines[done:], []byte("\n")), err)
			return err
		}
		lines = lines[n:]
	}
	return nil
}

// sayEvery is how often the log is told that lines are lost.
const sayEvery = 60 // seconds

// lose counts lines that are lost.
func (l *AccessLog) lose(lines int, err error) {
	total := l.lost.Add(uint64(lines))
	if l.loses.Load() == nil {
		why := err
		l.loses.Store(&why)
	}
	now, before := time.Now().Unix(), l.said.Load()
	if before != 0 && now-before < sayEvery && now >= before || !l.said.CompareAndSwap(before, now) {
		return
	}
	l.told.Store(true)
	l.log.Warn("access log loses lines", "file", l.name(), "lost", total, "err", err)
}

// sayRecovered tells that lines are written again.
func (l *AccessLog) sayRecovered() {
	if l.loses.Load() != nil {
		l.loses.Store(nil)
	}
	if l.told.Load() && l.told.CompareAndSwap(true, false) {
		l.log.Info("access log has its lines written again", "file", l.name(), "lost", l.lost.Load())
	}
}
