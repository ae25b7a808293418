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
// and not returned yet, which is part of the same memory. nil: this is not that version of
// Go, or it has no such field.
var (
	rawInput   = fieldOf[bytes.Buffer]("rawInput")
	plainInput = fieldOf[bytes.Reader]("input")
)

// fieldOf returns a function that returns a field of a tls.Conn.
func fieldOf[T any](name string) func(*tls.Conn) *T {
	f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[T]() || version.Lang(runtime.Version()) != knownGo {
		return nil
	}
	return func(c *tls.Conn) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), f.Offset)) }
}

// lendBuffer has the TLS of a side read into one of the loop's buffers.
func (k *link) lendBuffer(side int) {
	h, l := &k.half[side], k.loop
	if h.lent || rawInput == nil || plainInput == nil {
		return
	}
	var b []byte
	if n := len(l.raw); n > 0 {
		b = l.raw[n-1]
		l.raw = l.raw[:n-1]
	} else {
		b = make([]byte, 0, rawSize)
	}
	h.lent = true
	l.lent++
	raw := rawInput(k.tls[side])
	*raw = *bytes.NewBuffer(append(b, raw.Bytes()...))
}

// takeBuffer takes back what the TLS of a side does not need now or, if the connection has
// ended, in any case.
func (k *link) takeBuffer(side int, ended bool) {
	h, l := &k.half[side], k.loop
	if !h.lent {
		return
	}
	raw, plain := rawInput(k.tls[side]), plainInput(k.tls[side])
	if !ended && (plain.Len() > 0 || raw.Len() > 0 && l.lent <= maxLent) {
		return
	}
	rest := bytes.Clone(raw.Bytes())
	raw.Reset()
	b := raw.AvailableBuffer() // all of it
	plain.Reset(nil)
	*raw = *bytes.NewBuffer(rest)
	h.lent = false
	if l.lent--; len(l.raw) < spareRaw {
		l.raw = append(l.raw, b)
	}
}
