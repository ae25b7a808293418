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
	p := &udpPlane{udp: u, sessions: make(map[reactor.Pair]*udpSession), sockets: make(map[int32]*udpSession)}
	p.gone.add(p)
	// The loop holds the descriptor open as long as it runs.
	cerr := raw.Control(func(fd uintptr) { err = p.run(ctx, int32(fd)) })
	return errors.Join(cerr, err)
}

// placeFront is the place of the socket that clients send to.
const placeFront = -1

// run relays the datagrams of front until ctx ends.
func (p *udpPlane) run(ctx context.Context, front int32) (err error) {
	p.front = front
	if p.in, p.out, err = reactor.NewBatches(front); err != nil {
		return err
	}
	if p.Loop, err = reactor.NewLoop(); err != nil {
		return err
	}
	p.share = udpShare.join(shareOfDescriptors(), func() { p.Post(p.giveBack) })
	defer p.endAll()
	if errno := p.Watch(front, reactor.Readable, placeFront, 0); errno != 0 {
		return errno
	}
	defer context.AfterFunc(ctx, func() { p.Post(func() {}) })()
	for ctx.Err() == nil {
		for _, ev := range p.Wait(p.timers.Next()) {
			if ev.Fd == placeFront {
				p.receiveDatagrams()
			} else if s := p.sockets[ev.Fd]; s != nil && s.generation == ev.Pad {
				p.relayReplies(s)
			}
		}
		p.out.Flush(p.front)
		for t := p.timers.Expired(p.Now()); t != nil; t = p.timers.Expired(p.Now()) {
			p.endSession(t.Owner, "")
		}
	}
	return nil
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
