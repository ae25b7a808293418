package lb

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// linkState is where a connection is in its life.
type linkState uint8

const (
	linkFree       linkState = iota
	linkPreface              // Reading what tells the pool.
	linkQueued               // Waiting for a backend with room, or a name's address.
	linkConnecting           // To the backend.
	linkRelaying
)

// link is one connection in an event loop: a client, side 0, and a backend, side 1.
type link struct {
	loop       *loop
	t          *TCP
	slot       int32
	generation int32 // Counts the connections that used the slot.
	state      linkState
	proxied    bool // A PROXY header is due.
	picked     bool // pick is valid.
	queued     bool // In the loop's runq.
	failed     bool // epoll reported an error of the backend's side.
	fd         [2]int32
	half       [2]half // From the client, from the backend.
	early      []byte  // What the client sent before it had a backend.

	peer    netip.Addr // Whom Limits counts; the origin may name another.
	origin  origin
	flow    Flow
	pick    Pick
	tries   int
	started int64 // When the present attempt to connect began.
	start   int64
	connect int64 // How long it took to get a backend.

	deadline   int64
	in         *list
	prev, next *link
}

// begin starts an accepted connection.
func (k *link) begin() {
	if k.proxied || len(k.t.Routes) > 0 && k.t.TLS == nil {
		k.state = linkPreface
		k.loop.wait(k, timePreface, k.t.PrefaceTimeout)
		if errno := k.loop.watch(k.fd[0], k.slot, 0, k.generation); errno != 0 {
			k.fail(errno)
			return
		}
		return
	}
	k.route()
}

// readPreface reads the beginning of the connection until it tells the pool.
func (k *link) readPreface() {
	h := &k.half[0]
	for h.readable {
		n, errno := read(k.fd[0], k.loop.scratch[:16<<10])
		switch {
		case errno == unix.EAGAIN:
			h.readable = false
			return
		case errno == unix.EINTR:
			continue
		case errno != 0 || n == 0:
			k.refuse(errors.New("ended before its beginning was complete"))
			return
		}
		k.early = append(k.early, k.loop.scratch[:n]...)
		if k.proxied && !k.origin.local.IsValid() {
			k.origin.local = k.loop.localAddr(k.fd[0])
		}
		used, err := k.t.preface(k.early, &k.origin, k.proxied)
		if errors.Is(err, errShort) {
			continue
		}
		if err != nil {
			k.refuse(err)
			return
		}
		k.early = k.early[used:]
		k.route()
		return
	}
}

// route goes on with a connection whose pool is known.
func (k *link) route() {
	if k.t.TLS != nil || k.t.BackendTLS != nil {
		k.handOff()
		return
	}
	k.flow = Flow{Client: k.origin.client}
	k.dial()
}

// dial tries the next backend, and the one after that if it fails at once.
func (k *link) dial() {
	if k.tries == k.t.Tries {
		k.fail(errors.New("no backend was reached"))
		return
	}
	pick, err := k.origin.pool.Pick(&k.flow)
	if err == ErrBusy && k.origin.pool.config().Queue > 0 {
		k.enqueue()
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
	k.pick, k.picked = pick, true
	k.tries++
	k.started = k.loop.now
	k.failed = false
	k.half[0].writable, k.half[1].readable, k.half[1].ending = false, false, false
	if a := pick.member.addrPort.Load(); a != nil {
		fd, errno := socket(*a)
		if errno == 0 {
			k.fd[1] = fd
			errno = k.loop.connect(fd, *a)
		}
		k.connecting(errno)
		return
	}
	k.dialSlowly(pick)
}

// connecting waits for the connection, unless there was an error.
func (k *link) connecting(errno unix.Errno) {
	if errno == 0 || errno == unix.EINPROGRESS {
		errno = k.loop.watch(k.fd[1], k.slot, 1, k.generation)
	}
	if errno != 0 {
		k.notConnected(errno)
		return
	}
	k.state = linkConnecting
	k.loop.wait(k, timeConnect, k.t.ConnectTimeout)
}

// notConnected reports a failed attempt, and tries the next backend.
func (k *link) notConnected(err error) {
	k.closeSide(1)
	result := Failure
	if ours(err) {
		result = Neutral
	}
	pick := k.pick
	k.picked, k.pick = false, Pick{}
	k.t.log.Info("backend not reached", "backend", pick.Backend(), "error", err)
	pick.Done(result)
	k.dial()
}

// ours tells whether an attempt failed for want of something on this side.
func ours(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// connected begins relaying.
func (k *link) connected() {
	if k.failed {
		errno, err := unix.GetsockoptInt(int(k.fd[1]), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && errno != 0 {
			k.notConnected(unix.Errno(errno))
			return
		}
	}
	k.connect = k.loop.now - k.start
	k.pick.Connected(time.Duration(k.loop.now - k.started))
	k.pick.Report(Success)
	k.state = linkRelaying
	if k.t.SendProxy > 0 {
		local := k.origin.local
		if !local.IsValid() {
			local = k.loop.localAddr(k.fd[0])
		}
		k.early = append(appendProxy(nil, k.t.SendProxy, k.origin.client, local), k.early...)
	}
	if len(k.early) > 0 {
		k.half[0].pending = k.early
		k.early = nil
	}
	k.half[0].writable, k.half[1].writable = true, true
	// Nobody has listened to the client so far, unless for the preface.
	if !k.proxied && (len(k.t.Routes) == 0 || k.t.TLS != nil) {
		if errno := k.loop.watch(k.fd[0], k.slot, 0, k.generation); errno != 0 {
			k.abort(errno.Error())
			return
		}
	}
	k.half[0].readable = true
	k.loop.wait(k, timeIdle, k.t.IdleTimeout)
	k.pump()
}

// step goes on with a connection that something has happened to.
func (k *link) step() {
	switch k.state {
	case linkPreface:
		k.readPreface()
	case linkConnecting:
		if k.half[0].writable {
			k.connected()
		}
	case linkRelaying:
		k.loop.wait(k, timeIdle, k.t.IdleTimeout)
		k.pump()
	}
}

// expired ends a connection, or an attempt, that took too long.
func (k *link) expired() {
	switch k.state {
	case linkConnecting:
		k.notConnected(os.ErrDeadlineExceeded)
	case linkPreface:
		k.refuse(errors.New("its beginning did not come in time"))
	default:
		k.abort("idle")
	}
}

// refuse closes a connection that does not begin as it must.
func (k *link) refuse(err error) {
	k.t.state().counters.refused.Add(1)
	k.t.log.Warn("connection refused", "client", k.origin.client, "error", err)
	k.end(err.Error())
}

// fail closes a connection for which there is no backend.
func (k *link) fail(err error) {
	k.t.state().counters.failed.Add(1)
	k.t.log.Warn("connection not served", "client", k.origin.client, "error", err)
	k.end(err.Error())
}

// abort resets both sides: neither may take what it got for complete.
func (k *link) abort(reason string) {
	for _, fd := range k.fd {
		if fd >= 0 {
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
	}
	k.end(reason)
}

// end closes what is open and gives the link back.
func (k *link) end(reason string) {
	k.closeSide(0)
	k.closeSide(1)
	r := Record{
		Client: k.origin.client, Start: epoch.Add(time.Duration(k.start)), Duration: time.Duration(k.loop.now - k.start),
		Connect: time.Duration(k.connect), Received: k.half[0].total, Sent: k.half[1].total,
		Retries: max(0, k.tries-1), Reason: reason,
	}
	if k.picked {
		r.Backend = k.pick.Backend()
		k.pick.Transferred(r.Received, r.Sent)
		k.pick.Done(Neutral)
	}
	k.t.state().counters.active.Add(-1)
	k.t.state().limiter.release(&k.t.Limits, k.peer)
	k.t.ended(&r, k.origin.pool)
	k.release()
}

// release makes the link free for another connection.
func (k *link) release() {
	l := k.loop
	for i := range k.half {
		k.half[i].release(l)
	}
	if k.in != nil {
		k.in.remove(k)
	}
	*k = link{loop: l, slot: k.slot, generation: k.generation + 1, queued: k.queued}
	l.free = append(l.free, k.slot)
	l.live--
}

func (k *link) closeSide(side int) {
	if k.fd[side] >= 0 {
		closeFD(k.fd[side])
		k.fd[side] = -1
	}
}
