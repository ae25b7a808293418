package vrrp

import "time"

// PacketConn moves advertisements between a [Conn] and the link. A raw socket
// is one; [ListenConfig.Open] puts another in its place.
//
// One goroutine reads, and one at a time writes, closes or moves the deadline.
type PacketConn interface {
	// ReadBatch waits for packets and reads those that are there, as many as
	// fit into ps; fewer than len(ps) means that no more were waiting. What
	// the packets point to is valid until the next call. Once the deadline
	// has passed it still returns what waits, but does not wait itself: an
	// error that is os.ErrDeadlineExceeded then says that nothing was there.
	ReadBatch(ps []Packet) (int, error)
	// WriteBatch sends packets without waiting and returns how many it sent.
	// The error is about the first one that it did not send.
	WriteBatch(ps []Packet) (int, error)
	// SetReadDeadline interrupts or bounds ReadBatch; the zero time is no
	// bound.
	SetReadDeadline(t time.Time) error
	// Close makes ReadBatch return.
	Close() error
}
