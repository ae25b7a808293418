package h1

import (
	"errors"
	"math/bits"
)

// Chunks follows the frames of a body in chunks (RFC 9112 §7.1). The zero value is before
// the first of them.
//
//	for !c.Ended() {
//		if c.Left() == 0 {
//			n, err = c.Frame(p) // p[:n] is done with
//		} else {
//			// some of p is content: at most Left bytes
//			c.Took(n)
//		}
//	}
//
// The trailer section follows (RFC 9112 §7.1.2), with the empty line that ends it.
type Chunks struct {
	state  chunkState
	left   uint64 // content of the chunk that is still to come
	size   uint64 // of the chunk whose line is under way
	excess uint64 // bytes of frames beyond those that chunks and content account for
}

// chunkState says which byte of a frame is next.
type chunkState uint8

const (
	chunkSize  chunkState = iota // the first digit of a size
	chunkDigit                   // another one, or what may follow
	chunkSpace                   // space before an extension
	chunkExtension
	chunkLineLF
	chunkContent
	chunkCR // after the content
	chunkLF
	chunkEnded
)

// Frames may have this many bytes for each chunk, for each byte of content, and beyond that
// in a body. Who sends one byte a chunk needs five; who sends far more has something else
// in mind.
const (
	framesOfChunk   = 16
	framesOfContent = 2
	framesOfBody    = 16 << 10
)

// The errors of Frame.
var (
	ErrChunkSize    = errors.New("size of a chunk is not a hexadecimal number below 2^63")
	ErrChunkLine    = errors.New("line of a chunk does not end in CRLF")
	ErrChunkContent = errors.New("content of a chunk does not end in CRLF")
	ErrChunkFrames  = errors.New("chunks have too many bytes besides their content")
)

// Left returns how many bytes of content come next. 0: a frame does, or the end has come.
func (c *Chunks) Left() uint64 { return c.left }

// Ended reports whether the line of the last chunk is over.
func (c *Chunks) Ended() bool { return c.state == chunkEnded }

// Took tells that n bytes of the content were taken. n is not more than Left.
func (c *Chunks) Took(n int) {
	if c.left -= uint64(n); c.left == 0 && c.state == chunkContent {
		c.state = chunkCR
	}
}

// Frame takes the bytes that are no content from the beginning of p, and returns how many
// these are. If content or the end follows, p may go on; otherwise the frame does, after p.
// An extension has no meaning here (RFC 9112 §7.1.1). After an error, nothing is certain.
func (c *Chunks) Frame(p []byte) (n int, err error) {
	for n < len(p) && c.state != chunkContent && c.state != chunkEnded {
		if err := c.next(p[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Content takes frames from the beginning of b, and the content that follows them, as far as
// b has it. used is the length of both: b[used:] is for the next call. If there is no content
// the body has Ended, and its trailer section is at b[used:], or more bytes are needed.
func (c *Chunks) Content(b []byte) (content []byte, used int, err error) {
	if c.left == 0 {
		if used, err = c.Frame(b); err != nil {
			return nil, used, err
		}
	}
	n := int(min(c.left, uint64(len(b)-used)))
	if n == 0 {
		return nil, used, nil
	}
	c.Took(n)
	return b[used : used+n], used + n, nil
}

// next takes one byte of a frame.
func (c *Chunks) next(b byte) error {
	if c.excess++; c.excess > framesOfBody {
		return ErrChunkFrames
	}
	switch digit, isDigit := hexDigit(b); c.state {
	case chunkSize, chunkDigit:
		if isDigit {
			return c.digit(digit)
		}
		if c.state == chunkSize {
			return ErrChunkSize
		}
		return c.afterSize(b)
	case chunkSpace:
		return c.afterSize(b)
	case chunkExtension:
		switch b {
		case '\r':
			c.state = chunkLineLF
		case '\n':
			return ErrChunkLine
		}
	case chunkLineLF:
		if b != '\n' {
			return ErrChunkLine
		}
		c.begin()
	case chunkCR:
		if b != '\r' {
			return ErrChunkContent
		}
		c.state = chunkLF
	case chunkLF:
		if b != '\n' {
			return ErrChunkContent
		}
		c.state = chunkSize
	}
	return nil
}

// digit takes a digit of the size.
func (c *Chunks) digit(d uint64) error {
	if bits.LeadingZeros64(c.size) < 5 {
		return ErrChunkSize
	}
	c.size, c.state = c.size<<4|d, chunkDigit
	return nil
}

// afterSize takes what is no digit after the size.
func (c *Chunks) afterSize(b byte) error {
	switch b {
	case '\r':
		c.state = chunkLineLF
	case ';':
		c.state = chunkExtension
	case ' ', '\t':
		c.state = chunkSpace
	default:
		return ErrChunkSize
	}
	return nil
}

// begin begins the content of a chunk; the last one has none.
func (c *Chunks) begin() {
	if c.state = chunkContent; c.size == 0 {
		c.state = chunkEnded
	}
	c.excess -= min(c.excess, framesOfChunk+framesOfContent*min(c.size, framesOfBody))
	c.left, c.size = c.size, 0
}

// hexDigit returns the value of a hexadecimal digit.
func hexDigit(b byte) (uint64, bool) {
	switch {
	case '0' <= b && b <= '9':
		return uint64(b - '0'), true
	case 'a' <= b && b <= 'f':
		return uint64(b - 'a' + 10), true
	case 'A' <= b && b <= 'F':
		return uint64(b - 'A' + 10), true
	}
	return 0, false
}
