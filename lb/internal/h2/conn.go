package h2

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Config configures a Conn. The zero value will do.
type Config struct {
	// Window is how many bytes of a response's body a Stream holds that nobody has read.
	// Default 256 KiB.
	Window int
	// MaxHeader bounds a head of a response, and its trailer: the bytes of names and values,
	// and 32 more for each field. Default 96 KiB.
	MaxHeader int
	// WriteTimeout is how long the server may take nothing of what is written. Default 60 s.
	WriteTimeout time.Duration
	// PingAfter is how long the server may be silent while streams are open before it is
	// asked for a sign of life, and PingTimeout how long it has for that. Default 10 s each.
	PingAfter, PingTimeout time.Duration
	// Idle is called when no stream is left, and once more when the Conn has ended. It must
	// not block. nil: nobody wants to know.
	Idle func()
}

func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, 256<<10)
	c.MaxHeader = cmp.Or(c.MaxHeader, 96<<10)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, time.Minute)
	c.PingAfter = cmp.Or(c.PingAfter, 10*time.Second)
	c.PingTimeout = cmp.Or(c.PingTimeout, 10*time.Second)
	return c
}

const (
	// connWindow is what the server may send on all streams together before it hears more.
	// Each Stream has bounds of its own: a slow reader of one does not stop the others.
	connWindow = 1 << 30
	// connCredit is after how many bytes the server hears more.
	connCredit = 1 << 24
	// initialWindow is what either side may send without having heard more (RFC 9113 §6.9.2).
	initialWindow = 65535
	// maxFrame is the size of the frames that are read: the least that one may want (§4.2).
	maxFrame = 16 << 10
	// maxStreams bounds the streams of a connection where the server does not.
	maxStreams = 1000
)

// Errors of a Conn.
var (
	// ErrFull: the server allows no more streams at the moment, or the Conn takes none any more.
	ErrFull = errors.New("no further stream is possible")
	// ErrHeaderTooLarge: the head of a request is larger than the server takes.
	ErrHeaderTooLarge = errors.New("header is larger than the server of HTTP/2 takes")

	errClosed = errors.New("connection is closed")
	errLost   = errors.New("no sign of life on the connection")
)

// Conn is a connection to a server. All methods may be called concurrently.
type Conn struct {
	nc    net.Conn
	cfg   Config
	ready chan struct{} // closed when the server's first SETTINGS are here
	done  chan struct{} // closed when the Conn has ended

	// wmu guards the writing of frames. It is taken before mu.
	wmu    sync.Mutex
	w      *bufio.Writer
	fr     *http2.Framer // its reading half belongs to the goroutine of readFrames
	enc    *hpack.Encoder
	block  bytes.Buffer // what enc writes
	nextID uint32

	mu       sync.Mutex // guards what follows; nothing waits while it is held
	err      error      // why the Conn has ended
	streams  map[uint32]*Stream
	used     int    // streams that are open, and those that have yet to begin
	began    uint32 // the latest stream
	retired  bool   // no further stream
	leaving  bool   // the server has said GOAWAY
	peer     peerSettings
	send     int64  // what may be sent on all streams together
	receive  int64  // what the server may send
	taken    int    // what it has sent and was not told of
	control  []byte // frames that go out before all others
	flushing bool   // a goroutine writes control
	life     vitals
}

// peerSettings are those of the server (RFC 9113 §6.5.2).
type peerSettings struct {
	streams   uint32
	window    int64
	frame     int
	header    uint64
	table     uint32
	tableNews bool // the encoder does not know of table
}

// NewConn begins HTTP/2 on nc, and waits for the settings of the server, or the end of ctx.
// The Conn owns nc from then on, also if there is an error.
func NewConn(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	c := &Conn{nc: nc, cfg: cfg.withDefaults(), ready: make(chan struct{}), done: make(chan struct{}), nextID: 1,
		streams: make(map[uint32]*Stream), send: initialWindow, receive: initialWindow + connWindow,
		peer: peerSettings{streams: maxStreams, window: initialWindow, frame: maxFrame, header: math.MaxUint64}}
	c.w = bufio.NewWriter(timedWriter{c})
	c.fr = http2.NewFramer(c.w, bufio.NewReaderSize(nc, 16<<10))
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(maxFrame)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fr.MaxHeaderListSize = uint32(c.cfg.MaxHeader)
	c.enc = hpack.NewEncoder(&c.block)
	c.life.heard = time.Now()
	if err := c.writePreface(); err != nil {
		return nil, err
	}
	go c.readFrames()
	select {
	case <-c.ready:
		return c, nil
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		c.fail(ctx.Err())
		return nil, ctx.Err()
	}
}

// writePreface begins the connection (RFC 9113 §3.4).
func (c *Conn) writePreface() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, _ = c.w.WriteString(http2.ClientPreface)
	_ = c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.cfg.Window)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.cfg.MaxHeader)})
	_ = c.fr.WriteWindowUpdate(0, connWindow)
	return c.flush()
}

// Open takes a stream, which must be closed. The error is ErrFull.
func (c *Conn) Open() (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usable() || c.life.doubtful || c.used >= int(min(c.peer.streams, maxStreams)) {
		return nil, ErrFull
	}
	c.used++
	return &Stream{c: c, length: -1, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}, nil
}

// usable reports whether further streams are possible at all. c.mu is held.
func (c *Conn) usable() bool {
	return c.err == nil && !c.retired && !c.leaving && c.began < math.MaxInt32-2*maxStreams
}

// State is what a Conn is good for at the moment.
type State struct {
	Streams int  // that are taken
	Limit   int  // how many may be
	Usable  bool // further streams may be possible, now or when others have ended
}

// State returns the state of c.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Streams: c.used, Limit: int(min(c.peer.streams, maxStreams)), Usable: c.usable()}
}

// Err returns why c has ended; nil if it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Retire lets no further stream begin. The Conn ends with the last one.
func (c *Conn) Retire() {
	c.mu.Lock()
	c.retired = true
	idle := c.used == 0
	c.mu.Unlock()
	if idle {
		c.fail(errClosed)
	}
}

// Close ends c and all of its streams. It does not wait.
func (c *Conn) Close() { c.fail(errClosed) }

// fail ends c. The first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.life.stop()
	for _, s := range c.streams {
		s.failLocked(fmt.Errorf("HTTP/2: %w", err), false)
	}
	c.mu.Unlock()
	c.nc.Close()
	close(c.done)
	c.tell()
}

// tell calls Idle. No lock is held.
func (c *Conn) tell() {
	if c.cfg.Idle != nil {
		c.cfg.Idle()
	}
}

// releaseLocked gives the place of a stream back, once. It reports whether c has nothing to
// do any more: the caller calls rest when it holds no lock. c.mu is held.
func (c *Conn) releaseLocked(s *Stream) (idle bool) {
	if s.released {
		return false
	}
	s.released = true
	delete(c.streams, s.id)
	c.used--
	return c.used == 0
}

// rest is called when the last stream has gone.
func (c *Conn) rest() {
	c.mu.Lock()
	over := c.used == 0 && c.err == nil && !c.usable()
	c.mu.Unlock()
	if over {
		c.fail(errClosed)
		return
	}
	c.tell()
}
