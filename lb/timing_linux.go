package lb

import "time"

// The lists of a timing.
const (
	timePreface = iota
	timeConnect
	timeIdle
	timeStarved
	timeCount
)

// timing holds the connections of one configuration by what they wait for. All in
// a list wait equally long, so it is in the order of their deadlines.
type timing [timeCount]list

// list is a doubly linked one through the links.
type list struct{ head, tail *link }

func (t *list) push(k *link) {
	k.in, k.prev, k.next = t, t.tail, nil
	if t.tail != nil {
		t.tail.next = k
	} else {
		t.head = k
	}
	t.tail = k
}

func (t *list) remove(k *link) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		t.head = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		t.tail = k.prev
	}
	k.in, k.prev, k.next = nil, nil, nil
}

// wait puts k at the end of a list.
func (l *loop) wait(k *link, what int, d time.Duration) {
	t := l.timings[k.cfg]
	if t == nil {
		t = new(timing)
		l.timings[k.cfg] = t
	}
	if k.in != nil {
		k.in.remove(k)
	}
	k.deadline = l.now + int64(d)
	t[what].push(k)
}

// timeout is how long epoll may wait, in milliseconds.
func (l *loop) timeout() int {
	if len(l.runq) > 0 {
		return 0
	}
	next := int64(-1)
	earliest := func(at int64) {
		if next < 0 || at < next {
			next = at
		}
	}
	if l.paused > 0 {
		earliest(l.resumeAt)
	}
	for _, t := range l.timings {
		for i := range t {
			if k := t[i].head; k != nil {
				earliest(k.deadline)
			}
		}
	}
	if next < 0 {
		return -1
	}
	// Rounded up: waking before the deadline would be in vain.
	return int(min(max(next-int64(time.Since(epoch)), 0)+int64(time.Millisecond)-1, int64(time.Hour)) / int64(time.Millisecond))
}

// expire ends what has waited for too long.
func (l *loop) expire() {
	if l.paused > 0 && l.now >= l.resumeAt && l.listener >= 0 {
		l.resume()
	}
	for cfg, timing := range l.timings {
		empty := true
		for i := range timing {
			for k := timing[i].head; k != nil && k.deadline <= l.now; k = timing[i].head {
				k.expired()
			}
			empty = empty && timing[i].head == nil
		}
		if empty && cfg != l.e.t.settings.Load() {
			delete(l.timings, cfg) // Of a configuration that was replaced.
		}
	}
}
