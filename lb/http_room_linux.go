package lb

import (
	"net/http"
	"time"
)

// What an HTTP loop keeps for its connections, so that an idle one has next to nothing, and a
// request allocates nothing.

const (
	// headSize is how much is read at once where a request is expected: what nginx's header
	// buffers hold, twice. A longer head takes more memory.
	headSize = 16 << 10
	// headroom is before, and tailroom behind, what is read into the scratch buffer: what
	// is sent with it goes there.
	headroom, tailroom = 8 << 10, 64
	// spareHeads and spareTurns are how many buffers and turns a loop keeps for later.
	spareHeads, spareTurns = 256, 256
)

// takeHead returns a buffer for the head of a request.
func (l *httpLoop) takeHead() []byte {
	if n := len(l.heads); n > 0 {
		b := l.heads[n-1]
		l.heads = l.heads[:n-1]
		return b
	}
	return make([]byte, 0, headSize)
}

// giveHead takes a buffer back that nothing refers to any more.
func (l *httpLoop) giveHead(b []byte) {
	if cap(b) == headSize && len(l.heads) < spareHeads {
		l.heads = append(l.heads, b[:0])
	}
}

// takeTurn returns a turn for a request.
func (l *httpLoop) takeTurn() *httpTurn {
	if n := len(l.turns); n > 0 {
		t := l.turns[n-1]
		l.turns = l.turns[:n-1]
		return t
	}
	return new(httpTurn)
}

// giveTurn takes back a turn that is over.
func (l *httpLoop) giveTurn(t *httpTurn) {
	l.givePipe(&t.duct)
	l.givePipe(&t.upDuct)
	t.dropHeld()
	t.reset()
	if len(l.turns) < spareTurns {
		l.turns = append(l.turns, t)
	}
}

// httpDate returns the time as a Date field has it (RFC 9110 §6.6.1). It is made once a second.
func (l *httpLoop) httpDate() string {
	if second := l.Now() / int64(time.Second); second != l.dateOf || l.date == "" {
		l.dateOf, l.date = second, time.Now().UTC().Format(http.TimeFormat)
	}
	return l.date
}

// takeSlot gives a socket a place among the loop's.
func (l *httpLoop) takeSlot(s *sock) (slot int32) {
	if n := len(l.unused); n > 0 {
		slot = l.unused[n-1]
		l.unused = l.unused[:n-1]
		l.socks[slot] = s
		return slot
	}
	l.socks = append(l.socks, s)
	return int32(len(l.socks) - 1)
}

// freeSlot gives a place up. A burst of connections leaves 12 bytes behind for each, and not
// even these once no socket is left.
func (l *httpLoop) freeSlot(slot int32) {
	l.socks[slot] = nil
	l.unused = append(l.unused, slot)
	if len(l.unused) == len(l.socks) && len(l.socks) > spareLinks {
		l.socks, l.unused = nil, nil
	}
}

// newMark returns a mark that tells a socket from earlier ones in the same slot.
func (l *httpLoop) newMark() int32 {
	l.serial++
	return l.serial
}
