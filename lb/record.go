package lb

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// Record describes one connection, UDP session or HTTP request that has ended.
type Record struct {
	Service  string         // the pool's name
	Pool     string         // that name where whoever records has put another one into Service
	Client   netip.AddrPort // from the PROXY header, if there was one; of a request, from trusted proxies, without a port
	Peer     netip.AddrPort // of a request whose Client is not who has connected: the latter; else zero
	Backend  string         // empty if none was reached or, of a request, has answered
	Start    time.Time
	Duration time.Duration // from accepting to the end
	Connect  time.Duration // until the backend was connected, waiting included
	Received int64         // bytes from the client, of a request without its header
	Sent     int64         // bytes to the client, likewise
	Retries  int           // backends that were tried in vain
	Status   int           // of an HTTP response. 0: there was none
	Reason   string        // why it ended, if not in order
	// HTTP is what is known of a request. It is valid only until the function returns that
	// gets the Record: see Clone. nil: of a connection or session.
	HTTP *RequestRecord
}

// Clone returns a copy of r that stays valid.
func (r Record) Clone() Record {
	if r.HTTP != nil {
		r.HTTP = r.HTTP.clone()
	}
	return r
}

// unlogged reports whether logs leave the record out.
func (r *Record) unlogged() bool { return r.HTTP != nil && r.HTTP.Unlogged }

// LogValue implements slog.LogValuer.
func (r Record) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("service", r.Service), slog.String("client", addressText(r.Client)),
		slog.String("backend", r.Backend), slog.Time("start", r.Start),
		slog.Duration("duration", r.Duration), slog.Duration("connect", r.Connect),
		slog.Int64("received", r.Received), slog.Int64("sent", r.Sent), slog.Int("retries", r.Retries),
	}
	if r.Pool != "" {
		attrs = append(attrs, slog.String("pool", r.Pool))
	}
	if r.Peer.IsValid() {
		attrs = append(attrs, slog.String("peer", r.Peer.String()))
	}
	if r.Status != 0 {
		attrs = append(attrs, slog.Int("status", r.Status))
	}
	if r.HTTP != nil {
		attrs = r.HTTP.appendAttrs(attrs)
	}
	if r.Reason != "" {
		attrs = append(attrs, slog.String("reason", r.Reason))
	}
	return slog.GroupValue(attrs...)
}

// addressText returns an address as a log has it: of a client that a proxy has named, no port
// is known.
func addressText(a netip.AddrPort) string {
	if a.IsValid() && a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// LogRecords returns a function for the Record field of a plane. It logs each record as a
// line "connection", but for requests that are Unlogged. No plane waits for log: lines for
// which log is too slow are lost, and their number is logged. flush waits until all lines are
// written, for a tenth of a second at most: call it before the program ends.
func LogRecords(log *slog.Logger) (record func(Record), flush func()) {
	log = quietlog.New(log)
	return func(r Record) {
			if !r.unlogged() && log.Enabled(context.Background(), slog.LevelInfo) {
				log.LogAttrs(context.Background(), slog.LevelInfo, "connection", slog.Any("", r.Clone()))
			}
		},
		func() { quietlog.Flush(log) }
}

// Stats counts what a plane has done since it was made. Accepting pauses at
// Limits.Connections, and while the host is out of descriptors or memory: planes leave an
// eighth of the process's descriptors (RLIMIT_NOFILE), but no more than 8192, to whatever
// else it does. Accepting leaves twice as many, since a connection needs a backend: nobody
// is accepted while the rest of the process leaves no more than that itself.
type Stats struct {
	Active   int64  // connections, sessions or requests under way
	Accepted uint64 // all that were accepted
	// Refused are those that were turned away by Limits, or because the PROXY header, TLS or
	// server name before the data was bad or late; and requests that the Rules, such as Access,
	// Auth, Maintenance and their limits, keep from backends, or that are none that a backend
	// should see. Answers and redirects are no refusals.
	Refused  uint64
	Failed   uint64 // not served: no backend was reached or, of requests, has answered
	Retries  uint64 // backends tried in vain
	Paused   uint64 // pauses of accepting; a long one may count several times
	Received uint64 // bytes from clients, of requests without their headers; counted at the end
	Sent     uint64 // bytes to clients, likewise
}

// counters are Stats under way.
type counters struct {
	active                                                     atomic.Int64
	reserved                                                   atomic.Int64 // connections that are being accepted
	starved                                                    atomic.Int64 // connections that wait for descriptors
	compressing                                                atomic.Int64 // responses that are being compressed
	accepted, refused, failed, retries, paused, received, sent atomic.Uint64
}

// begin counts something that was accepted and is under way: a connection, a session or a
// request.
func (c *counters) begin() {
	c.active.Add(1) // first: see stats
	c.accepted.Add(1)
}

// stats reads the counters one by one while they change. What is accepted was active before,
// and Active is read after Accepted: whoever sees that all have been accepted and none is
// active knows that all are over. Their bytes were counted before that, and are read later.
func (c *counters) stats() (s Stats) {
	s.Accepted = c.accepted.Load()
	s.Active = c.active.Load()
	s.Refused, s.Failed, s.Retries, s.Paused = c.refused.Load(), c.failed.Load(), c.retries.Load(), c.paused.Load()
	s.Received, s.Sent = c.received.Load(), c.sent.Load()
	return s
}

// beginCompressing counts a response that is compressed from now on, unless there are as many
// as the limit already.
func (c *counters) beginCompressing(limit int) bool {
	if c.compressing.Add(1) > int64(limit) {
		c.compressing.Add(-1)
		return false
	}
	return true
}

// reserve counts a connection that is to be accepted, unless there are as many as the
// limit already; 0: no limit. Several loops accept at the same time: in this order none
// of them overlooks a connection of another loop.
func (c *counters) reserve(limit int) bool {
	if n := c.reserved.Add(1) + c.active.Load(); limit > 0 && n > int64(limit) {
		c.reserved.Add(-1)
		return false
	}
	return true
}
