package lb

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/lb/internal/reactor"
)

// open reads from a side that has TLS.
func (k *link) open(side int, buf []byte) (int, unix.Errno) {
	r := k.tls[side]
	n, errno := r.read(buf)
	if len(k.loop.tls.sealed) > 0 {
		sent := k.sendSealed(side)
		n, errno = r.answered(n, errno, sent, len(k.half[1-side].pending))
	}
	if r.spent {
		k.half[side].readable = false
	}
	return n, errno
}

// seal writes to a side that has TLS. What the socket does not take is pending.
func (k *link) seal(side int, b []byte) unix.Errno {
	if errno := k.tls[side].seal(b); errno != 0 {
		return errno
	}
	h := &k.half[1-side]
	h.sealed += int64(len(b))
	if errno := k.sendSealed(side); errno != 0 {
		return errno
	}
	h.countSealed()
	return 0
}

// countSealed counts what was sealed as written once all of that has been sent.
func (h *half) countSealed() {
	if !h.full() {
		h.written += h.sealed
		h.sealed = 0
	}
}

// sealEnd tells a side that has TLS that no more comes.
func (k *link) sealEnd(side int) unix.Errno {
	k.tls[side].sealEnd()
	return k.sendSealed(side)
}

// sendSealed sends what TLS has written to a side.
func (k *link) sendSealed(side int) unix.Errno {
	h, b := &k.half[1-side], k.loop.tls.takeSealed()
	if h.done() {
		return 0 // nothing follows its end
	}
	if h.writable && !h.full() {
		n, errno := reactor.Write(k.fd[side], b)
		switch errno {
		case 0:
			b = b[n:]
		case unix.EAGAIN, unix.EINTR:
		default:
			return errno
		}
	}
	if len(b) > 0 {
		h.pending = append(h.pending, b...)
		h.stalled()
	}
	return 0
}

// adopt has the loop relay a connection that a goroutine has prepared, up to its end: false
// if that cannot be, and the goroutine must. peer is whom Limits counts, and start when the
// connection was accepted.
func (l *loop) adopt(c *tcpConn, pick Pick, peer netip.Addr, start int64) bool {
	if renegotiates(c.dialer.tlsFor(pick)) {
		return false
	}
	client, err := prepareSide(c.client)
	backend, berr := prepareSide(c.backend)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || berr != nil || c.dead {
		reactor.Close(client.fd)
		reactor.Close(backend.fd)
		return false
	}
	client.socket.Close()
	backend.socket.Close()
	c.client, c.backend = nil, nil
	var k *link
	var mark int32
	l.Post(func() {
		k = l.newLink()
		mark = k.mark[0]
		k.mark[1] = l.newMark()
		k.cfg, k.origin, k.peer, k.start = c.tcpSettings, c.origin, peer, start
		k.pick, k.retries, k.connect = pick, c.record.Retries, int64(c.record.Connect)
		k.state = linkRelaying
		k.half[0].read = c.up.read.Load() // while it waited
		k.adoptSides(client, backend, c.early)
	})
	c.moved = func() {
		l.Post(func() {
			if k.mark[0] == mark {
				k.cut(true)
			}
		})
	}
	return true
}

// adoptSides begins relaying between two sides. early is what the backend gets before all
// else.
func (k *link) adoptSides(client, backend preparedSide, early []byte) {
	for i, s := range []preparedSide{client, backend} {
		k.fd[i], k.tls[i] = s.fd, s.records(&k.loop.tls)
		k.half[i].readable, k.half[i].writable = true, true
	}
	up := &k.half[0]
	if client.tls == nil && client.preface != nil {
		early = append(early, client.preface.early...)
		up.read += int64(len(client.preface.early))
	}
	up.nodelay = true // the net package's default
	reactor.KeepUrgent(k.fd[1])
	errno := k.watchSide(0)
	if errno == 0 {
		errno = k.watchSide(1)
	}
	if errno == 0 && len(early) > 0 {
		if k.tls[1] != nil {
			errno = k.seal(1, early)
		} else {
			up.pending = early
		}
	}
	if errno != 0 {
		k.abort(errno.Error())
		return
	}
	k.relayBytes()
}
