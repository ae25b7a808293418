package lb

import (
	"bytes"
	"crypto/tls"
	"go/version"
	"reflect"
	"runtime"
	"unsafe"
)

// A tls.Conn keeps the buffer that it reads into, 36 KB after large records, for as long as
// it lives. In an event loop it gets one of the loop's instead, while there is something to
// read. There is no way to this buffer but by the fields of tls.Conn. What it has decrypted
// lies in the same memory, so a mistake would give one client what belongs to another: only
// versions of Go whose crypto/tls was read with this in mind do it, others do without.

// knownGo is that version. In it nothing but rawInput and input refers to the memory between
// two calls of Read: handshake messages, alerts and errors are copies.
const knownGo = "go1.26"

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
// and not returned yet, which is part of the same memory. handInput returns the beginning of a
// handshake message. nil: this is not that version of Go, or it has no such field.
var (
	rawInput   = fieldOf[bytes.Buffer]("rawInput")
	plainInput = fieldOf[bytes.Reader]("input")
	handInput  = fieldOf[bytes.Buffer]("hand")
)

// fieldOf returns a function that returns a field of a tls.Conn.
func fieldOf[T any](name string) func(*tls.Conn) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() || version.Lang(runtime.Version()) != knownGo {
		return nil
	}
	return func(c *tls.Conn) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset)) }
}

// tlsBuffers is what the TLS of all connections of an event loop share.
type tlsBuffers struct {
	sealed []byte   // what TLS has written to a socket, until takeSealed
	raw    [][]byte // buffers that are not in use
	lent   int      // those that are
}

// takeSealed returns what TLS has written. It is valid until TLS writes again.
func (b *tlsBuffers) takeSealed() []byte {
	s := b.sealed
	b.sealed = s[:0]
	return s
}

// dropHandshake gives up the memory in which the handshake's messages have come: 1.5 KB for
// a usual ClientHello. Messages were copied out of it.
func (r *records) dropHandshake() {
	if handInput != nil && handInput(r.conn).Len() == 0 {
		*handInput(r.conn) = bytes.Buffer{}
	}
}

// lendBuffer has TLS read into one of the loop's buffers.
func (r *records) lendBuffer() {
	if r.lent || rawInput == nil || plainInput == nil {
		return
	}
	l := r.wire.buffers
	var b []byte
	if n := len(l.raw); n > 0 {
		b = l.raw[n-1]
		l.raw = l.raw[:n-1]
	} else {
		b = make([]byte, 0, rawSize)
	}
	r.lent = true
	l.lent++
	raw := rawInput(r.conn)
	*raw = *bytes.NewBuffer(append(b, raw.Bytes()...))
}

// takeBuffer takes the buffer back if TLS does not need it now.
func (r *records) takeBuffer() {
	if !r.lent {
		return
	}
	raw, plain := rawInput(r.conn), plainInput(r.conn)
	if plain.Len() == 0 && (raw.Len() == 0 || r.wire.buffers.lent > maxLent) {
		r.releaseBuffer()
	}
}

// releaseBuffer takes the buffer back in any case, from a connection that has ended for
// instance. TLS keeps the ciphertext in it, but nothing that has been decrypted.
func (r *records) releaseBuffer() {
	if !r.lent {
		return
	}
	l, raw := r.wire.buffers, rawInput(r.conn)
	rest := bytes.Clone(raw.Bytes())
	raw.Reset()
	b := raw.AvailableBuffer() // all of it
	plainInput(r.conn).Reset(nil)
	*raw = *bytes.NewBuffer(rest)
	r.lent = false
	if l.lent--; len(l.raw) < spareRaw {
		l.raw = append(l.raw, b)
	}
}
