package lb

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// AccessFormat is the form of the lines of an access log.
type AccessFormat uint8

// The formats.
const (
	// AccessCombined is nginx's combined format: of requests, and by the client's address,
	// user, request line, status, bytes, referer and agent.
	AccessCombined AccessFormat = iota
	// AccessJSON is an object of JSON a line, of everything that there is.
	AccessJSON
)

var accessFormats = []string{"combined", "json"}

// String returns "combined" or "json".
func (f AccessFormat) String() string { return words.Of(accessFormats, f) }

// MarshalText implements encoding.TextMarshaler.
func (f AccessFormat) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *AccessFormat) UnmarshalText(text []byte) error { return words.Parse(accessFormats, text, f) }

// AccessLogConfig configures an AccessLog. Path or Writer is required.
type AccessLogConfig struct {
	// Path is the file to whose end lines go. It is made if it is not there. It may be a FIFO,
	// too.
	Path string
	// Late: NewAccessLog does not fail where the file cannot be opened. Lines are lost until
	// it can be.
	Late bool
	// Writer gets the lines if there is no Path: whole ones, maybe several at once.
	Writer io.Writer
	// Format is that of a line. Default AccessCombined.
	Format AccessFormat
	// Sample is how many requests, connections or sessions there is a line for: 10 is each
	// tenth. What has failed always has its line: a request with a status of 500 or more, or
	// none, all that has not come to its end, and what was no request. 1 to 1000000, default 1.
	Sample int
	// Buffer bounds the lines that wait to be written, in bytes. 64 KiB to 1 GiB, default 1
	// MiB.
	Buffer int
	// Logger hears of lines that are lost, at most once a minute. nil: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with its zero fields filled in.
func (c AccessLogConfig) WithDefaults() AccessLogConfig {
	c.Sample = cmp.Or(c.Sample, 1)
	c.Buffer = cmp.Or(c.Buffer, 1<<20)
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c AccessLogConfig) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		field.If(c.Path == "" && c.Writer == nil, "Path", "none: want the file that lines go to, or a Writer"),
		field.If(c.Path != "" && c.Writer != nil, "Writer", "want none beside a Path"),
		field.If(!words.Has(accessFormats, c.Format), "Format", "%v: want %s", c.Format, words.Choice(accessFormats)),
		field.Between("Sample", c.Sample, 1, 1000000),
		field.Between("Buffer", c.Buffer, 64<<10, 1<<30))
}

// AccessLog writes a line for each Record: its method Record is for the field of that name of
// a plane. Nobody ever waits for the file: where nobody takes the lines, or the disk is full,
// lines are lost and counted. Make one with [NewAccessLog]. All methods may be called
// concurrently.
type AccessLog struct {
	cfg  AccessLogConfig
	log  *slog.Logger
	memo sync.Pool // *[]byte, in which lines are made

	seen  atomic.Uint64         // records that may be left out
	lost  atomic.Uint64         // lines
	loses atomic.Pointer[error] // why the latest lines were lost; nil: lines are written
	told  atomic.Bool           // the log knows of losses, and not yet of their end
	said  atomic.Int64          // when it was told of losses last, in Unix seconds; 0: never

	closed chan struct{}

	mu      sync.Mutex // guards what follows; nothing waits while it is held
	pending []byte     // lines that wait
	spare   []byte     // memory of pending
	sink    *logSink   // nil: closed
	shut    error      // why the file could not be opened; nil: it is open
	trying  bool       // openLater runs
	busy    int        // sinks that write
	idle    chan struct{}
}

// NewAccessLog opens the file of an access log. Close it in the end.
func NewAccessLog(cfg AccessLogConfig) (*AccessLog, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lb: AccessLog: %w", err)
	}
	l := &AccessLog{cfg: cfg.WithDefaults(), log: limitedLog(cfg.Logger), closed: make(chan struct{})}
	l.memo.New = func() any {
		b := make([]byte, 0, usualLine)
		return &b
	}
	sink, err := l.open()
	if err != nil && !l.cfg.Late {
		return nil, err
	}
	if err != nil {
		sink = newLogSink()
		sink.w = shutFile{err}
		l.log.Error("access log cannot be opened: its lines are lost until it can be", "file", l.name(), "err", err, "retry", againAfter)
	}
	l.sink = sink
	if err != nil {
		l.awaitFile(err)
	}
	go l.write(sink)
	return l, nil
}

const (
	// usualLine is what most lines have room in.
	usualLine = 512
	// keptLine is how much memory is kept in which a line was made.
	keptLine = 16 << 10
)

// Record writes a line, unless it is of a request that is Unlogged. It never waits, and allocates
// nothing as a rule.
func (l *AccessLog) Record(r Record) {
	if r.unlogged() {
		return
	}
	if every := uint64(l.cfg.Sample); every > 1 && !failed(&r) && l.seen.Add(1)%every != 1 {
		return
	}
	memory := l.memo.Get().(*[]byte)
	b := (*memory)[:0]
	// The end of it all, by the clock on the wall: Start and Duration know nothing of a clock
	// that was set.
	now := time.Now()
	if l.cfg.Format == AccessJSON {
		b = appendJSONLine(b, now, &r)
	} else {
		b = appendCombinedLine(b, now, &r)
	}
	l.queue(b)
	if *memory = b; cap(b) <= keptLine {
		l.memo.Put(memory)
	}
}

// failed reports whether a record has its line whatever the Sample is.
func failed(r *Record) bool {
	h := r.HTTP
	if h != nil && h.Method != "" && r.Status >= 400 && r.Status < 500 {
		return false // answered in order, although maybe here
	}
	return r.Reason != "" || r.Status >= 500 || h != nil && (r.Status == 0 || h.Method == "")
}

// Lost returns how many lines were lost.
func (l *AccessLog) Lost() uint64 { return l.lost.Load() }

// Err returns why lines are lost now, or go on to a file that was moved away; nil: all is
// well.
func (l *AccessLog) Err() error {
	l.mu.Lock()
	shut := l.shut
	l.mu.Unlock()
	if shut != nil {
		return shut
	}
	if err := l.loses.Load(); err != nil {
		return fmt.Errorf("lb: access log %s: loses lines: %w", l.name(), *err)
	}
	return nil
}

// Flush waits until all lines are written that were recorded before, for bound at most, and
// reports whether they are.
func (l *AccessLog) Flush(bound time.Duration) bool {
	l.mu.Lock()
	if len(l.pending) == 0 && l.busy == 0 {
		l.mu.Unlock()
		return true
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	if l.sink != nil {
		l.sink.hasten()
	}
	l.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-time.After(bound):
		return false
	}
}

// flushWithin is how long Close waits for whoever takes the lines.
const flushWithin = time.Second

// Close writes what waits, unless that takes more than a second, and closes the file. Records
// that come later have no lines.
func (l *AccessLog) Close() error {
	written := l.Flush(flushWithin)
	l.mu.Lock()
	old := l.sink
	left := bytes.Count(l.pending, []byte("\n"))
	l.sink, l.pending, l.shut = nil, nil, nil
	l.mu.Unlock()
	if old == nil {
		return nil
	}
	close(l.closed)
	l.lost.Add(uint64(left))
	old.retire()
	if !written {
		return fmt.Errorf("lb: access log %s: nobody takes its last lines", l.name())
	}
	return nil
}

// name is what messages call the log.
func (l *AccessLog) name() string { return cmp.Or(l.cfg.Path, "of a Writer") }
