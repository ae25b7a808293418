package lb

import (
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder compresses the content of one response, piece by piece. It is used by one goroutine
// at a time, and works in the caller's. What it returns is valid until the next call.
type encoder struct {
	w    compressor
	pool *sync.Pool // where w and out come from
	out  []byte     // what the present call has made
	owes bool       // of what was given some may be in w only
}

// compressor is a gzip.Writer or a zstd.Encoder.
type compressor interface {
	io.Writer
	Flush() error
	Close() error
	Reset(w io.Writer)
}

// errEncoder: content could not be compressed, which is nobody's fault but ours.
type errEncoder struct{ error }

// maxLevel is the highest Level of a Compress.
const maxLevel = 9

// encoderPools have the encoders that are not in use, by encoding and level: making one takes
// longer than to compress a usual response. The garbage collector takes those that nobody needs.
var encoderPools [2][maxLevel + 1]sync.Pool

// encodingCost is how much more work of a loop a byte is that is compressed than one that is only
// passed on. It is a rough measure: at any level, a turn takes a few milliseconds.
func encodingCost(level int) int {
	switch {
	case level <= 3:
		return 4
	case level <= 6:
		return 16
	}
	return 64
}

// zstdWindow is how far back zstd looks for what repeats itself. RFC 9659 allows up to 8 MiB,
// which each response would hold.
const zstdWindow = 256 << 10

// takeEncoder returns an encoder, which must go back by release.
func takeEncoder(of Encoding, level int) *encoder {
	pool := &encoderPools[of][level]
	e, _ := pool.Get().(*encoder)
	if e == nil {
		e = &encoder{w: newCompressor(of, level), pool: pool}
	}
	e.w.Reset(e)
	e.owes = false
	return e
}

// newCompressor makes what does the work. Neither kind starts a goroutine.
func newCompressor(of Encoding, level int) compressor {
	if of == EncodingGzip {
		w, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			panic(err) // of a level that is none: Validate has seen it
		}
		return w
	}
	speed := zstd.SpeedFastest
	switch {
	case level >= 6:
		speed = zstd.SpeedBetterCompression // the best takes 35 MiB
	case level >= 3:
		speed = zstd.SpeedDefault
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // of options that are none
	}
	return w
}

// release gives e back: nobody may use it any more.
func (e *encoder) release() {
	e.w.Reset(io.Discard) // nothing of this response stays in it
	e.out = e.out[:0]
	e.pool.Put(e)
}

// Write takes what the compressor has made.
func (e *encoder) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

// encode takes a piece of the content, and returns what it has become so far.
func (e *encoder) encode(p []byte) ([]byte, error) {
	e.out = e.out[:0]
	if len(p) == 0 {
		return nil, nil
	}
	e.owes = true
	_, err := e.w.Write(p)
	return e.made(err)
}

// flush returns all that is needed to read what has been given.
func (e *encoder) flush() ([]byte, error) {
	e.out = e.out[:0]
	if !e.owes {
		return nil, nil
	}
	e.owes = false
	return e.made(e.w.Flush())
}

// end returns the end of the content.
func (e *encoder) end() ([]byte, error) {
	e.out = e.out[:0]
	e.owes = false
	return e.made(e.w.Close())
}

func (e *encoder) made(err error) ([]byte, error) {
	if err != nil {
		err = errEncoder{fmt.Errorf("compress: %w", err)}
	}
	return e.out, err
}
