package lb

import (
	"context"
	"io"
)

// bufferBody reads the body before there is a backend, if that is wanted.
func (x *handling) bufferBody() error {
	if !x.buffers() {
		return nil
	}
	x.expect = false // net/http asks for the body at the first read
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	stop := context.AfterFunc(ctx, x.body.stopReading) // maybe while a read waits
	x.session.buffering(giveUp)
	spilt, err := x.body.buffer(x.cfg.bodies.hold(x.req.Length))
	stop()
	x.session.buffering(nil)
	if spilt != nil {
		x.bufferingFailed(x.body.bytesRead(), spilt)
	}
	if cut := x.session.interrupted(); cut != nil {
		return cut
	}
	x.bodyHeld(x.body.bytesRead(), x.body.over.Load())
	return err
}

// buffering tells how to interrupt reading a body for which there is no backend yet; nil: that
// is over.
func (s *session) buffering(giveUp context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.giveUp = giveUp; s.dead && giveUp != nil {
		giveUp()
	}
}

// buffer reads the body to its end, or as much of it as can be held: spilt is why that is not
// all.
func (b *replayBody) buffer(held *heldBody) (spilt, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = held
	p := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(p)
	for b.err == nil && b.spilt == nil && !b.stopped {
		_, _ = b.readClient(p[:])
	}
	switch {
	case b.err == io.EOF:
		return b.spilt, nil
	case b.err == nil && b.stopped:
		return nil, errBodyOver
	}
	return b.spilt, b.err
}

// keep keeps what was read for another attempt. b.mu is held.
func (b *replayBody) keep(p []byte) {
	switch {
	case b.held == nil && b.spilt == nil && b.read <= replayLimit:
		b.kept = append(b.kept, p...)
	case b.held == nil:
		// A body beyond the limit is not kept at all: half of one replays nothing. The read that
		// goes beyond is kept: an attempt may have begun that reckons with it.
		b.kept = nil
	case b.spilt == nil:
		b.spilt = b.held.add(p)
	case len(p) > 0:
		b.held.close() // the same
		b.held = nil
	}
}

// keptSize returns how much is kept. b.mu is held.
func (b *replayBody) keptSize() int64 {
	if b.held != nil {
		return b.held.size()
	}
	return int64(len(b.kept))
}

// readKept reads what is kept, of which there is some at at. b.mu is held.
func (b *replayBody) readKept(p []byte, at int64) (int, error) {
	if b.held != nil {
		return b.held.read(p, at)
	}
	return copy(p, b.kept[at:]), nil
}

// settle tells that no other attempt will be made: what is held goes when it has been sent, and
// not when the client has taken the last byte of a response.
func (b *replayBody) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	b.releaseSettled()
}

// releaseSettled gives up what is held if no attempt needs it any more. b.mu is held.
func (b *replayBody) releaseSettled() {
	if b.settled && (b.latest == nil || b.latest.ended) {
		b.held.close()
		b.held = nil
	}
}

// release gives up what is held.
func (b *replayBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.close()
	b.held = nil
}
