package lb

import (
	"context"
	"net/netip"
	"time"

	"github.com/havip/havip/lb/internal/reactor"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// engine relays plain TCP connections in event loops, one per processor, each
// with an epoll instance of its own.
type engine struct {
	plane *TCP
	work  context.Context // ends when connections must end
	loops []*loop
}

// loop owns some of the connections; all but Post runs in its goroutine.
type loop struct {
	acceptor
	e *engine

	links  []*link // by slot; nil: unused
	unused []int32 // slots
	spare  []*link // for later connections
	serial int32   // of the latest mark
	runq   []*link // with more to do than one turn allows
	timers reactor.Timers[*link]

	scratch []byte
	tls     tlsBuffers
	pipes   []reactor.Pipe // not in use
	piping  int            // all there are

	_ cpu.CacheLinePad // loops are made side by side
}

// linkState is where a connection is in its life.
type linkState uint8

const (
	linkFree       linkState = iota
	linkPreface              // reading what tells the pool
	linkQueued               // waiting for a backend with room
	linkStarved              // waiting for a descriptor
	linkDialing              // to the backend, in a goroutine,
	linkConnecting           // or here
	linkRelaying
)

// link is one connection in an event loop: a client, side 0, and a backend, side 1.
type link struct {
	loop    *loop
	cfg     *tcpSettings
	slot    int32
	mark    [2]int32 // of the connection, and of the present attempt to connect
	state   linkState
	proxied bool    // a PROXY header is due
	watched bool    // the client's side is in the epoll instance
	queued  bool    // in the loop's runq
	failed  [2]bool // epoll reported an error of this side
	gone    [2]bool // the same, also if this side had ended in order before
	fd      [2]int32
	tls     [2]*records // nil: no TLS
	half    [2]half     // from the client, from the backend
	early   []byte      // what the client sent before it had a backend,
	need    int         // and how much of it is needed at least

	peer    netip.Addr // whom Limits counts; the origin may name another
	origin  origin
	flow    Flow
	wait    *waiter // in the pool's queue; nil: the link is not there
	pick    Pick    // zero while there is no backend
	tries   int
	retries int   // tries in vain
	started int64 // when the present attempt to connect began
	start   int64
	connect int64 // how long it took to get a backend

	timer reactor.Timer[*link] // for what the state waits for
}

// half is one direction of a connection: what comes from one side and goes to
// the other.
type half struct {
	readable bool // the source may have something
	writable bool // the sink may have room
	urgent   bool // there is an urgent byte, which ends reads that could go on
	ending   bool // the source's last byte has been sent, or it has failed
	eof      bool // the source has ended
	shut     bool // the sink has been told
	dead     bool // the sink has failed: nothing can be brought to it
	nodelay  bool // further writes need not wait for the first one's acknowledgement
	bulk     int8 // large reads in a row, up to bulkAfter
	room     int  // how much to move at once; 0 stands for firstRoom
	piped    int  // bytes in pipe
	pipe     reactor.Pipe
	pending  []byte
	read     int64 // bytes from the source
	written  int64 // bytes to the sink
	sealed   int64 // further ones, some of which are pending under TLS
}

// newLink reuses the link of a connection that has ended, or makes a link, and gives it a
// slot.
func (l *loop) newLink() *link {
	l.live.Add(1)
	var k *link
	if n := len(l.spare); n > 0 {
		k = l.spare[n-1]
		l.spare = l.spare[:n-1]
	} else {
		k = new(link)
	}
	k.loop = l
	if n := len(l.unused); n > 0 {
		k.slot = l.unused[n-1]
		l.unused = l.unused[:n-1]
		l.links[k.slot] = k
	} else {
		k.slot = int32(len(l.links))
		l.links = append(l.links, k)
	}
	k.mark[0] = l.newMark()
	return k
}

// newMark returns a mark that tells a descriptor, or an attempt to connect, from earlier
// ones in the same place.
func (l *loop) newMark() int32 {
	l.serial++
	return l.serial
}

// armTimer has the connection expire after d, unless it waits for something else before.
func (k *link) armTimer(d time.Duration) {
	k.timer.Owner = k
	k.loop.timers.Set(&k.timer, k.loop.Now(), d)
}

// watchSide has the loop told of a side's events.
func (k *link) watchSide(side int32) unix.Errno {
	k.watched = k.watched || side == 0
	return k.loop.Watch(k.fd[side], reactor.Edges, k.slot<<1|side, k.mark[side])
}

// release makes the link, or its memory, free for another use. A burst of connections
// leaves 12 bytes behind for each, and not even these once no connection is left.
func (k *link) release() {
	l := k.loop
	for i := range k.half {
		k.half[i].release(l)
		if k.tls[i] != nil {
			k.tls[i].releaseBuffer()
		}
	}
	l.timers.Stop(&k.timer)
	l.links[k.slot] = nil
	l.unused = append(l.unused, k.slot)
	if len(l.unused) == len(l.links) && len(l.links) > spareLinks {
		l.links, l.unused = nil, nil
	}
	*k = link{queued: k.queued}
	if len(l.spare) < spareLinks {
		l.spare = append(l.spare, k)
	}
	l.live.Add(-1)
}

func (k *link) closeSide(side int) {
	if k.fd[side] >= 0 {
		reactor.Close(k.fd[side])
		k.fd[side] = -1
	}
}

// release gives up what h holds.
func (h *half) release(l *loop) {
	if h.pipe.Exists() {
		// Another connection must not get what is still in the pipe.
		if h.piped > 0 || len(l.pipes) >= sparePipes {
			h.pipe.Close()
			l.piping--
		} else {
			l.pipes = append(l.pipes, h.pipe)
		}
		h.pipe = reactor.Pipe{}
	}
	h.piped, h.pending = 0, nil
}

// freeAll gives up what a loop holds that does not run (any more).
func (l *loop) freeAll() {
	l.Close()
	for _, p := range l.pipes {
		p.Close()
	}
}

// sparePipes and spareLinks are how many pipes and links a loop keeps for later.
const sparePipes, spareLinks = 64, 128
