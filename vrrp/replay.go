package vrrp

import "net/netip"

// maxSenders bounds how many senders' marks are kept. Only senders that hold
// the key get one, so more than the routers of one group are not expected.
const maxSenders = 64

// highWater is the last sequence number accepted from one sender.
type highWater struct {
	source netip.Addr
	seq    uint64
}

// highWaters keeps the senders' marks, the latest heard first.
type highWaters []highWater

// of returns the mark of source and whether there is one, which becomes the
// first. A new one may push out the sender that was silent for longest.
func (h *highWaters) of(source netip.Addr) (mark *highWater, known bool) {
	s := *h
	for i := range s {
		if s[i].source == source {
			found := s[i]
			copy(s[1:i+1], s[:i])
			s[0] = found
			return &s[0], true
		}
	}
	if len(s) < maxSenders {
		s = append(s, highWater{})
	}
	copy(s[1:], s)
	s[0] = highWater{source: source}
	*h = s
	return &s[0], false
}
