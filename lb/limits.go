package lb

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Limits bounds the connections of a listener.
type Limits struct {
	// Conns is how many connections are served at once; further ones wait in the
	// listener's backlog. 0: no bound.
	Conns int
	// PerClient is how many a client address may have at once; further ones are
	// closed. 0: no bound. IPv6 clients are counted by /64.
	PerClient int
	// Rate is how many connections per second a client address may open in the
	// long run, Burst how many at once. 0: no bound. Burst's default is Rate.
	Rate  float64
	Burst int
}

// validate checks l and fills in its defaults.
func (l *Limits) validate() error {
	if l.Conns < 0 || l.PerClient < 0 || l.Rate < 0 || l.Burst < 0 {
		return fmt.Errorf("limits %+v: must not be negative", *l)
	}
	if l.Burst == 0 {
		l.Burst = max(1, int(l.Rate))
	}
	return nil
}

// limiter counts the clients of a plane. Its zero value has none.
type limiter struct {
	mu      sync.Mutex
	clients map[netip.Addr]*client
	swept   time.Time
}

// client is what Limits counts of one address: a token bucket that fills at Rate.
type client struct {
	conns  int
	tokens float64
	filled time.Time
}

// clientKey takes the addresses that one IPv6 customer may choose from for one.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// admit counts a connection from a, unless l is exceeded.
func (r *limiter) admit(l *Limits, a netip.Addr, now time.Time) bool {
	if l.PerClient == 0 && l.Rate == 0 {
		return true
	}
	a = clientKey(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(l, now)
	c := r.clients[a]
	if c == nil {
		c = &client{tokens: float64(l.Burst), filled: now}
		if r.clients == nil {
			r.clients = make(map[netip.Addr]*client)
		}
		r.clients[a] = c
	}
	if l.Rate > 0 {
		c.tokens = min(float64(l.Burst), c.tokens+now.Sub(c.filled).Seconds()*l.Rate)
		c.filled = now
		if c.tokens < 1 {
			return false
		}
	}
	if l.PerClient > 0 && c.conns >= l.PerClient {
		return false
	}
	c.tokens--
	c.conns++
	return true
}

// release undoes admit's count.
func (r *limiter) release(l *Limits, a netip.Addr) {
	if l.PerClient == 0 && l.Rate == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[clientKey(a)]; c != nil && c.conns > 0 {
		c.conns--
	}
}

// sweep forgets clients that are indistinguishable from new ones. r.mu is held.
func (r *limiter) sweep(l *Limits, now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for a, c := range r.clients {
		if c.conns == 0 && (l.Rate == 0 || c.tokens+now.Sub(c.filled).Seconds()*l.Rate >= float64(l.Burst)) {
			delete(r.clients, a)
		}
	}
}
