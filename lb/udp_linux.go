package lb

import (
	"context"
	"errors"
	"net"

	"github.com/havip/havip/lb/internal/reactor"
)

// serveSocket relays the datagrams of conn until ctx ends.
func (u *UDP) serveSocket(ctx context.Context, conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// The loop holds the descriptor open as long as it runs.
	cerr := raw.Control(func(fd uintptr) {
		var p *udpPlane
		if p, err = newUDPPlane(u, int32(fd)); err == nil {
			p.run(ctx)
		}
	})
	return errors.Join(cerr, err)
}

// newUDPPlane returns the event loop of u for front.
func newUDPPlane(u *UDP, front int32) (p *udpPlane, err error) {
	p = &udpPlane{udp: u, front: front, sessions: make(map[reactor.Pair]*udpSession), sockets: make(map[int32]*udpSession)}
	p.gone.add(p)
	if p.in, p.out, err = reactor.NewBatches(front); err != nil {
		return nil, err
	}
	if p.Loop, err = reactor.NewLoop(); err != nil {
		return nil, err
	}
	if errno := p.Watch(front, reactor.Readable, placeFront, 0); errno != 0 {
		p.Close()
		return nil, errno
	}
	p.share = udpShare.join(udpSockets(), func() { p.Post(p.giveBack) })
	return p, nil
}

// placeFront is the place of the socket that clients send to. A session's place is its
// descriptor. That needs no mark: an event of a session that has ended in the same round
// at worst has a later session with the same descriptor look for replies in vain.
const placeFront = -1

// run relays datagrams until ctx ends.
func (p *udpPlane) run(ctx context.Context) {
	defer p.endAll()
	defer context.AfterFunc(ctx, func() { p.Post(func() {}) })()
	for ctx.Err() == nil {
		p.turn()
	}
}

// turn waits until something happens, and deals with it.
func (p *udpPlane) turn() {
	for _, ev := range p.Wait(p.timers.Next()) {
		if ev.Fd == placeFront {
			p.receiveDatagrams()
		} else if s := p.sockets[ev.Fd]; s != nil {
			p.relayReplies(s)
		}
	}
	p.out.Flush(p.front)
	for t := p.timers.Expired(p.Now()); t != nil; t = p.timers.Expired(p.Now()) {
		p.endSession(t.Owner, "")
	}
}

// endAll ends all sessions.
func (p *udpPlane) endAll() {
	for t := p.timers.Oldest(); t != nil; t = p.timers.Oldest() {
		p.endSession(t.Owner, "shutdown")
	}
	p.share.leave()
	p.Close()
}

// receiveDatagrams takes the datagrams that clients have sent, one batch at a time so that
// replies do not wait for long. Those that follow one another in a session
// go on together.
func (p *udpPlane) receiveDatagrams() {
	n := p.in.Receive(p.front)
	for first := 0; first < n; {
		key := p.in.Pair(first)
		end := first + 1
		for end < n && p.in.Pair(end) == key {
			end++
		}
		s := p.sessions[key]
		if s == nil {
			s = p.beginSession(key)
		}
		p.touchSession(s)
		s.up += p.in.Bytes(first, end)
		p.forwardDatagrams(s, first, end)
		first = end
	}
}
