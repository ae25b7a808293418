package lb

import (
	"errors"
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

func validateRequests(r *Rules) error {
	return errors.Join(
		field.Between("RequestRate", max(r.RequestRate, 0), 0, maxCount),
		field.Between("RequestBurst", r.RequestBurst, 0, maxCount),
		field.Between("RequestsPerClient", max(r.RequestsPerClient, 0), 0, maxCount),
		field.Between("RequestsPerConnection", r.RequestsPerConnection, 0, maxCount),
		field.Between("MaxURI", max(r.MaxURI, 0), 0, maxCount))
}

// limitsRequests reports whether one of the limits that count before a backend is chosen is on.
func (r *Rules) limitsRequests() bool { return r.countsRequests() || r.MaxURI > 0 }

// countsRequests reports whether the requests of each client are counted.
func (r *Rules) countsRequests() bool { return r.RequestRate > 0 || r.RequestsPerClient > 0 }

// limitsAsHandler reports whether requests of a route count together with those of the Handler: all
// that is said of them is said there, as of nginx's limit_req beside locations.
func (r *Route) limitsAsHandler() bool {
	return r.RequestRate == 0 && r.RequestBurst == 0 && r.RequestsPerClient == 0 &&
		!slices.ContainsFunc(r.Own, func(name string) bool {
			return name == "RequestRate" || name == "RequestBurst" || name == "RequestsPerClient"
		})
}

// lastOfConnection reports whether the n-th request of a connection is to be its last.
func (r *Rules) lastOfConnection(n int) bool {
	return r.RequestsPerConnection > 0 && n >= r.RequestsPerConnection
}

// longerThan reports whether the target has more bytes than a bound, if that is one.
func (x *exchange) longerThan(bound int) bool { return bound > 0 && len(x.req.Target) > bound }

// refuseLong refuses a target for its length.
func (x *exchange) refuseLong(bound int) verdict {
	return x.refuse(http.StatusRequestURITooLong, "target is longer than "+strconv.Itoa(bound)+" bytes")
}

// limited says whether the request exceeds one of the limits.
func (x *exchange) limited() verdict {
	r := &x.cfg.Rules
	if x.longerThan(r.MaxURI) {
		return x.refuseLong(r.MaxURI)
	}
	if x.cfg.requests == nil || !x.client.Addr().IsValid() {
		return passOn
	}
	wait, reason := x.cfg.requests.admit(r, x.client.Addr(), x.record.Start)
	if reason == "" {
		x.counted = r.RequestsPerClient > 0
		return passOn
	}
	v := x.refuse(http.StatusTooManyRequests, reason)
	x.reply.fields = append(x.reply.fields, h1.Field{Name: "Retry-After", Value: strconv.Itoa(wait)})
	return v
}

// requestCounts are what the limits count of each client. Shards keep requests of several
// clients from waiting for one another.
type requestCounts struct {
	seed   maphash.Seed
	shards [requestShards]requestShard
}

const (
	requestShards = 32
	// mostClients is how many clients a generation of a shard has, beside those with requests
	// under way: 65,536 of all shards, and a few megabytes.
	mostClients = 2048
)

// requestShard has some of the clients, in two generations. Who comes is moved to the present
// one. When that is full, or so old that a bucket which nobody has used in it is full, the
// earlier one goes, but for the clients that have requests under way. So a flood of addresses
// costs no more than that memory, and makes only the clients new that have come before most of it.
type requestShard struct {
	mu               sync.Mutex
	present, earlier map[netip.Addr]clientRequests
	began            time.Time // of the present generation
	kept             int       // with which it began
}

// clientRequests is what is counted of one client.
type clientRequests struct {
	rate   bucket
	active int
}

// newRequestCounts returns nil if r counts nothing.
func newRequestCounts(r *Rules) *requestCounts {
	if !r.countsRequests() {
		return nil
	}
	return &requestCounts{seed: maphash.MakeSeed()}
}

// shard returns where a client is counted.
func (c *requestCounts) shard(a netip.Addr) *requestShard {
	b := a.As16()
	return &c.shards[maphash.Bytes(c.seed, b[:])%requestShards]
}

// admit counts a request from a, unless r is exceeded. Then reason says by what, and wait after
// how many seconds another one may get through. Who is refused pays nothing for it.
func (c *requestCounts) admit(r *Rules, a netip.Addr, now time.Time) (wait int, reason string) {
	a = clientKey(a)
	s := c.shard(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(r, now)
	n := s.take(a)
	defer func() { s.present[a] = n }()
	if r.RequestRate > 0 {
		if now.Before(n.rate.filled) {
			now = n.rate.filled // requests come here in another order than they began
		}
		if has := n.rate.fill(r.RequestRate, r.RequestBurst, now); has < 1 {
			seconds := math.Ceil((1 - has) / r.RequestRate)
			return int(min(max(seconds, 1), 24*3600)), "more requests than the client may send in this time"
		}
	}
	if r.RequestsPerClient > 0 {
		if n.active >= r.RequestsPerClient {
			return 1, "more requests at once than the client may have"
		}
		n.active++
	}
	if r.RequestRate > 0 {
		n.rate.tokens--
	}
	return 0, ""
}

// release undoes the count of a request that was under way.
func (c *requestCounts) release(a netip.Addr) {
	a = clientKey(a)
	s := c.shard(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.take(a)
	n.active = max(n.active-1, 0)
	if n.active == 0 && n.rate.filled.IsZero() { // it counts like a new one
		delete(s.present, a)
		return
	}
	if s.present == nil {
		s.present = make(map[netip.Addr]clientRequests)
	}
	s.present[a] = n
}

// take returns what is known of a client, which is to be of the present generation.
func (s *requestShard) take(a netip.Addr) clientRequests {
	n, is := s.present[a]
	if !is {
		if n, is = s.earlier[a]; is {
			delete(s.earlier, a)
		}
	}
	return n
}

// turn begins another generation when it is time. s.mu is held.
func (s *requestShard) turn(r *Rules, now time.Time) {
	full := time.Second // until a bucket is
	if r.RequestRate > 0 {
		full = time.Duration(min(max(float64(r.RequestBurst)/r.RequestRate, 1), 24*3600) * float64(time.Second))
	}
	if s.present != nil && len(s.present) < mostClients+s.kept && now.Sub(s.began) < full {
		return
	}
	next := make(map[netip.Addr]clientRequests)
	for a, n := range s.earlier {
		if n.active > 0 {
			next[a] = n
		}
	}
	s.earlier, s.present, s.began, s.kept = s.present, next, now, len(next)
}
