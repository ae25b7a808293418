package lb

import (
	"cmp"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/havip/havip/internal/field"
)

// Limits bounds the connections of a listener. A client is an address that connects:
// behind other proxies, as with AcceptProxy, that is the proxy's, whose clients
// count as one. IPv6 clients are counted by /64, those with link-local addresses by
// address and link.
type Limits struct {
	// Connections is how many connections are served at once; further ones wait in the
	// listener's backlog. 0: no bound.
	Connections int
	// PerClient is how many a client may have at once; further ones are closed. 0:
	// no bound.
	PerClient int
	// Rate is how many connections per second a client may open in the long run,
	// Burst how many at once; further ones are closed. 0: no bound. Burst's default
	// is Rate, but 1 at least.
	Rate  float64
	Burst int
	// TotalRate and TotalBurst are the same for all clients together.
	TotalRate  float64
	TotalBurst int
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	if l.Rate > 0 {
		l.Burst = cmp.Or(l.Burst, max(1, int(l.Rate)))
	}
	if l.TotalRate > 0 {
		l.TotalBurst = cmp.Or(l.TotalBurst, max(1, int(l.TotalRate)))
	}
	return l
}

// Validate returns what is wrong with l: FieldErrors, joined.
func (l Limits) Validate() error {
	return errors.Join(
		field.Between("Connections", l.Connections, 0, maxCount),
		field.Between("PerClient", l.PerClient, 0, maxCount),
		field.Between("Rate", l.Rate, 0, maxCount),
		field.Between("Burst", cmp.Or(l.Burst, 1), 1, maxCount),
		field.Between("TotalRate", l.TotalRate, 0, maxCount),
		field.Between("TotalBurst", cmp.Or(l.TotalBurst, 1), 1, maxCount),
		field.If(l.Burst > 0 && l.Rate == 0, "Burst", "%d: does nothing without Rate: leave it out", l.Burst),
		field.If(l.TotalBurst > 0 && l.TotalRate == 0, "TotalBurst", "%d: does nothing without TotalRate: leave it out", l.TotalBurst))
}

// counts reports whether l asks for more than to count connections.
func (l *Limits) counts() bool { return l.PerClient > 0 || l.Rate > 0 || l.TotalRate > 0 }

// limiter counts the connections of a plane and its clients. Its zero value has none.
type limiter struct {
	mu      sync.Mutex
	total   bucket
	clients map[netip.Addr]*client
	swept   time.Time
}

// client is what Limits counts of one address.
type client struct {
	conns int
	rate  bucket
}

// bucket holds tokens, one for each connection that may be opened now. Its zero
// value is full.
type bucket struct {
	tokens float64
	filled time.Time
}

// fill adds what is due and returns how much there is.
func (b *bucket) fill(rate float64, burst int, now time.Time) float64 {
	if b.filled.IsZero() {
		b.tokens = float64(burst)
	}
	b.tokens = min(float64(burst), b.tokens+now.Sub(b.filled).Seconds()*rate)
	b.filled = now
	return b.tokens
}

// clientKey returns the address by which a client is counted: an IPv6 customer has a
// whole /64 to choose from, but all hosts of a link share the one of link-local addresses.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() && !a.IsLinkLocalUnicast() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// admit counts a connection from a, unless l is exceeded.
func (r *limiter) admit(l *Limits, a netip.Addr, now time.Time) bool {
	if !l.counts() {
		return true
	}
	a = clientKey(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(l, now)
	c := r.clients[a]
	if c == nil {
		c = new(client)
		if r.clients == nil {
			r.clients = make(map[netip.Addr]*client)
		}
		r.clients[a] = c
	}
	if l.Rate > 0 && c.rate.fill(l.Rate, l.Burst, now) < 1 ||
		l.PerClient > 0 && c.conns >= l.PerClient ||
		l.TotalRate > 0 && r.total.fill(l.TotalRate, l.TotalBurst, now) < 1 {
		return false
	}
	// A limit that is off takes nothing: it may be turned on later.
	if l.Rate > 0 {
		c.rate.tokens--
	}
	if l.TotalRate > 0 {
		r.total.tokens--
	}
	c.conns++
	return true
}

// release undoes admit's count.
func (r *limiter) release(l *Limits, a netip.Addr) {
	if !l.counts() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[clientKey(a)]; c != nil && c.conns > 0 {
		c.conns--
	}
}

// sweep deletes the clients that count like new ones. r.mu is held.
func (r *limiter) sweep(l *Limits, now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for a, c := range r.clients {
		if c.conns == 0 && (l.Rate == 0 || c.rate.fill(l.Rate, l.Burst, now) >= float64(l.Burst)) {
			delete(r.clients, a)
		}
	}
}
