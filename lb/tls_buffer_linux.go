package lb

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// A tls.Conn keeps the buffer that it reads into, 36 KB after large records, for as long as
// it lives. In an event loop it gets one of the loop's instead, while there is something to
// read. There is no way to this buffer but by the fields of tls.Conn: a version of Go that
// has others does without the loops' buffers.

const (
	// rawSize is how much ciphertext is read at once.
	rawSize = 64 << 10
	// maxLent is how many connections may keep a loop's buffer while they wait for the rest
	// of a record. Others keep what they have of it, and no more.
	maxLent = 64
	// spareRaw is how many buffers a loop keeps for later.
	spareRaw = 8
)

// rawInput returns what c has read and not decrypted yet, and plainInput what c has decrypted
// and not returned yet, which is part of the same memory. nil: this version of Go has no
// such field.
var (
	rawInput   = fieldOf[bytes.Buffer]("rawInput")
	plainInput = fieldOf[bytes.Reader]("input")
)

// fieldOf returns a function that returns a field of a tls.Conn.
func fieldOf[T any](name string) func(*tls.Conn) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() {
		return nil
	}
	return func(c *tls.Conn) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset)) }
}

// lendBuffer has c read into one of the loop's buffers.
func (l *loop) lendBuffer(c *tls.Conn) {
	if rawInput == nil || plainInput == nil {
		return
	}
	raw := rawInput(c)
	if raw.Cap() >= rawSize {
		return // it has one
	}
	var b []byte
	if n := len(l.raw); n > 0 {
		b = l.raw[n-1]
		l.raw = l.raw[:n-1]
	} else {
		b = make([]byte, 0, rawSize)
	}
	l.lent++
	*raw = *bytes.NewBuffer(append(b, raw.Bytes()...))
}

// takeBuffer takes back what c does not need now or, if c has ended, in any case.
func (l *loop) takeBuffer(c *tls.Conn, ended bool) {
	if rawInput == nil || plainInput == nil {
		return
	}
	raw, plain := rawInput(c), plainInput(c)
	if raw.Cap() < rawSize || !ended && (plain.Len() > 0 || raw.Len() > 0 && l.lent <= maxLent) {
		return
	}
	rest := bytes.Clone(raw.Bytes())
	raw.Reset()
	b := raw.AvailableBuffer() // all of it
	plain.Reset(nil)
	*raw = *bytes.NewBuffer(rest)
	if l.lent--; len(l.raw) < spareRaw {
		l.raw = append(l.raw, b)
	}
}
