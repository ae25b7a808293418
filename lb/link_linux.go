package lb

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/reactor"
)

// begin starts an accepted connection.
func (k *link) begin() {
	if k.proxied || k.cfg.sniffs() {
		k.state = linkPreface
		k.armTimer(k.cfg.HandshakeTimeout)
		if errno := k.watchSide(0); errno != 0 {
			k.fail(errno)
		}
		return
	}
	k.goToPool()
}

// readPreface reads the beginning of the connection until it tells the pool.
func (k *link) readPreface() {
	h := &k.half[0]
	for h.readable {
		n, errno := reactor.Read(k.fd[0], k.loop.scratch[:16<<10])
		switch {
		case errno == unix.EAGAIN:
			h.readable = false
			return
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0:
			k.refuse(errEarlyEnd)
			return
		}
		k.early = append(k.early, k.loop.scratch[:n]...)
		if len(k.early) < k.need {
			continue
		}
		if k.proxied {
			k.findLocalAddr()
		}
		used, err := k.cfg.parsePreface(k.early, &k.origin, k.proxied)
		if err == io.ErrUnexpectedEOF {
			k.need = used
			continue
		}
		if err != nil {
			k.refuse(err)
			return
		}
		k.early = k.early[used:]
		h.read = int64(len(k.early))
		k.goToPool()
		return
	}
}

// findLocalAddr finds out the address that the client connected to, unless it is known.
func (k *link) findLocalAddr() {
	if !k.origin.local.IsValid() {
		k.origin.local = k.loop.LocalAddr(k.fd[0])
	}
}

// goToPool goes on with a connection whose pool is known.
func (k *link) goToPool() {
	if k.cfg.TLS != nil || k.cfg.BackendTLS != nil || k.origin.pool.snap.Load().tls {
		k.handOff()
		return
	}
	k.flow = Flow{Client: k.origin.client}
	k.dialNext()
}

// dialNext tries the next backend, and the one after that if it fails at once.
func (k *link) dialNext() {
	if k.tries == k.cfg.Tries {
		k.fail(errors.New("no backend was reached"))
		return
	}
	pick, err := k.origin.pool.pickInTurn(&k.flow)
	if err == ErrBusy && k.origin.pool.config().Queue > 0 {
		k.awaitPick()
		return
	}
	if err != nil {
		k.fail(err)
		return
	}
	k.connectTo(pick)
}

// connectTo begins connecting to a picked backend.
func (k *link) connectTo(pick Pick) {
	if pick.member.TLS != nil { // the backend came after route
		pick.Done(Neutral)
		k.handOff()
		return
	}
	k.pick = pick
	k.tries++
	k.mark[1] = k.loop.newMark()
	k.started = k.loop.Now()
	k.failed[1], k.gone[1] = false, false
	k.half[0].writable, k.half[1].readable, k.half[1].ending = false, false, false
	if pick.isCut() { // while the connection waited in the queue
		k.failAttempt(errDown)
		return
	}
	if a := pick.member.addrPort; a.IsValid() {
		fd, errno := reactor.Socket(unix.SOCK_STREAM, a)
		if errno == 0 {
			k.fd[1] = fd
			errno = k.loop.Connect(fd, a)
		}
		k.awaitConnect(errno)
		return
	}
	k.dialSlowly(pick)
}

// awaitPick waits for a backend in the pool's queue.
func (k *link) awaitPick() {
	k.state = linkQueued
	k.loop.timers.Stop(&k.timer)
	flow := k.flow
	// Now and not in the goroutine: the place is by the order of arrival.
	w, err := k.origin.pool.enqueue(&flow)
	if err != nil {
		k.fail(err)
		return
	}
	k.wait = w
	pool, work := k.origin.pool, k.loop.e.work
	get := func() (Pick, error) { return pool.await(work, w, nil) } // the loop looks at the client
	inGoroutine(k, 0, get, func(pick Pick, err error) {
		k.wait = nil
		if err != nil {
			k.fail(err)
			return
		}
		k.flow = flow
		k.connectTo(pick)
	}, func(pick Pick) { pick.Done(Neutral) })
	if !k.watched {
		if errno := k.watchSide(0); errno != 0 {
			k.fail(errno)
			return
		}
	}
	k.lookAtClient() // the end may have come before
}

// dialSlowly connects to a name or a unix socket, which takes a goroutine.
func (k *link) dialSlowly(pick Pick) {
	k.state = linkDialing
	k.loop.timers.Stop(&k.timer)
	d, work := &k.cfg.dialer, k.loop.e.work
	get := func() (int32, error) { return dialFD(work, d, pick) }
	inGoroutine(k, 1, get, func(fd int32, err error) {
		if err != nil {
			k.failAttempt(err)
			return
		}
		k.fd[1] = fd
		k.awaitConnect(0)
	}, reactor.Close)
}

// awaitConnect waits for the connection, unless there was an error.
func (k *link) awaitConnect(errno unix.Errno) {
	if errno == 0 || errno == unix.EINPROGRESS {
		errno = k.watchSide(1)
	}
	if errno != 0 {
		k.failAttempt(errno)
		return
	}
	k.state = linkConnecting
	k.armTimer(k.cfg.ConnectTimeout)
}

// failAttempt reports a failed attempt, and tries the next backend.
func (k *link) failAttempt(err error) {
	k.closeSide(1)
	pick := k.pick
	k.pick = Pick{}
	k.mark[1] = 0 // what an attempt that was given up leads to is ignored
	if starved(err) {
		pick.Done(Neutral)
		k.awaitResources(err)
		return
	}
	k.retries++
	k.cfg.log.Info("backend not reached", "backend", pick.Backend(), "err", err)
	pick.Done(blame(err))
	k.dialNext()
}

// awaitResources has a connection wait for what this host is out of. No backend is to
// blame, so the attempt does not count.
func (k *link) awaitResources(err error) {
	k.cfg.log.Warn("connection waits", "client", k.origin.client, "err", explain(err))
	k.tries--
	k.flow.undo()
	k.state = linkStarved
	k.cfg.plane.counters.starved.Add(1)
	k.armTimer(starvedFor)
}

// startRelaying begins relaying.
func (k *link) startRelaying() {
	if k.failed[1] {
		if errno := reactor.SocketError(k.fd[1]); errno != 0 {
			k.failAttempt(errno)
			return
		}
	}
	if a := k.pick.member.addrPort; a.IsValid() && k.loop.IsSelfConnected(k.fd[1], a.Port()) {
		reactor.Abort(k.fd[1])
		k.failAttempt(inet.ErrSelfConnected)
		return
	}
	k.connect = k.loop.Now() - k.start
	k.pick.Connected(time.Duration(k.loop.Now() - k.started))
	k.pick.Report(Success)
	k.state = linkRelaying
	reactor.KeepUrgent(k.fd[1])
	h := &k.half[0]
	if k.cfg.SendProxy != ProxyNone {
		k.findLocalAddr()
		k.early = append(k.cfg.greeting(&k.origin), k.early...)
	}
	if len(k.early) > 0 {
		h.pending, k.early = k.early, nil
		k.writeAtOnce() // what the client sends next must not wait for the header's acknowledgement
	}
	h.writable, k.half[1].writable = true, true
	if !k.watched {
		if errno := k.watchSide(0); errno != 0 {
			k.abort(errno.Error())
			return
		}
	}
	h.readable = true
	k.relayBytes()
}

// relayBytes moves what can be moved, and ends the connection when that is due.
func (k *link) relayBytes() {
	k.armTimer(k.cfg.IdleTimeout)
	switch k.pump() {
	case over:
		k.end("")
	case deserted:
		k.end("reset")
	case broken:
		k.abort("reset")
	}
}

// handleEvents goes on with a connection that something has happened to.
func (k *link) handleEvents() {
	switch k.state {
	case linkPreface:
		k.readPreface()
	case linkQueued:
		k.lookAtClient()
	case linkConnecting:
		if k.half[0].writable {
			k.startRelaying()
		}
	case linkRelaying:
		k.relayBytes()
	}
}

// expireTimer ends a connection, or an attempt, that took too long.
func (k *link) expireTimer() {
	switch k.state {
	case linkConnecting:
		k.failAttempt(os.ErrDeadlineExceeded)
	case linkStarved:
		k.cfg.plane.counters.starved.Add(-1)
		k.state = linkQueued
		if k.loop.Now()-k.start > int64(k.cfg.IdleTimeout) {
			k.abort("idle")
			return
		}
		k.dialNext()
	case linkPreface:
		k.refuse(errors.New("its beginning did not come in time"))
	default:
		k.abort("idle")
	}
}

// cut ends the connection, or, if that is because of its backend alone and nothing
// has been sent there, goes on with another one.
func (k *link) cut(backend bool) {
	if backend && (k.state == linkConnecting || k.state == linkDialing) {
		k.failAttempt(errDown)
		return
	}
	k.abort("cut")
}

// refuse closes a connection that does not begin as it must.
func (k *link) refuse(err error) {
	k.cfg.plane.counters.refused.Add(1)
	k.cfg.log.Warn("connection refused", "client", k.origin.client, "err", err)
	k.end(err.Error())
}

// fail closes a connection for which there is no backend.
func (k *link) fail(err error) {
	k.cfg.plane.counters.failed.Add(1)
	k.cfg.log.Warn("connection not served", "client", k.origin.client, "err", err)
	k.end(err.Error())
}

// abort resets both sides: neither may take what it got for complete.
func (k *link) abort(reason string) {
	for _, fd := range k.fd {
		if fd >= 0 {
			reactor.Abort(fd)
		}
	}
	k.end(reason)
}

// end closes what is open and gives the link back.
func (k *link) end(reason string) {
	k.closeSide(0)
	k.closeSide(1)
	r := Record{
		Client: k.origin.client, Start: reactor.Time(k.start), Duration: time.Duration(k.loop.Now() - k.start),
		Connect: time.Duration(k.connect), Received: k.half[0].read, Sent: k.half[1].written,
		Retries: k.retries, Reason: reason,
	}
	if k.state == linkStarved {
		k.cfg.plane.counters.starved.Add(-1)
	}
	if k.wait != nil {
		_, _ = k.origin.pool.queue.giveUp(k.wait, errLeft) // a pick is its goroutine's
	}
	if k.state == linkRelaying {
		r.Backend = k.pick.Backend()
		k.pick.Transferred(k.half[0].written, k.half[1].read)
		k.pick.Lasted(r.Duration)
	}
	k.pick.Done(Neutral)
	k.cfg.leave(k.peer)
	k.cfg.account(&r, k.origin.pool)
	k.release()
}
