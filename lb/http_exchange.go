package lb

import (
	"errors"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// exchange is one request on its way to a backend and back.
type exchange struct {
	h      *Handler
	cfg    *generation
	w      http.ResponseWriter
	rc     *http.ResponseController
	in     *http.Request
	client netip.AddrPort
	record Record

	// What backends get.
	header   http.Header
	host     string
	trailers []string // Names.
	upgrades []string // Protocols.
	expect   bool     // 100-continue.
	body     *replayBody

	// The latest attempt.
	pick    Pick // Zero if there is none, or no backend has answered.
	result  Result
	up      *upstream // nil: not connected any more.
	upload  *upload
	cancel  func()
	unwatch func() bool

	session    session // What the pool and Shutdown cut.
	registered bool
	duplex     bool // The response may begin before the request ends.

	origin    *originBody // under ModifyResponse: what the backend sends
	writing   sync.Mutex  // Guards w until the final response begins.
	answering bool
	unbounded bool        // The response's length is not known.
	announced []string    // Trailers of the response.
	trailer   http.Header // The same with their values, after the body.
}

func newExchange(h *Handler, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{h: h, cfg: h.enter(), w: w, rc: http.NewResponseController(w), in: r, client: remoteAddr(r)}
	x.record.Start = time.Now()
	h.counters.accepted.Add(1)
	h.counters.active.Add(1)
	x.registered = h.sessions.add(&x.session)
	x.body = newReplayBody(r, x.rc, x.cfg.MaxBody, x.cfg.ClientTimeout)
	return x
}

// remoteAddr is the client's address; zero if it is not an IP address.
func remoteAddr(r *http.Request) netip.AddrPort {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (x *exchange) serve() {
	// Without it net/http would read the whole request before it lets the
	// response begin.
	x.duplex = x.rc.EnableFullDuplex() == nil
	if !x.in.ProtoAtLeast(1, 1) {
		// net/http does not tell whether there was a Transfer-Encoding, with which
		// the end of such a request is uncertain (RFC 9112 §6.1).
		x.w.Header().Set("Connection", "close")
	}
	if status := x.refusal(); status != 0 {
		x.refuse(status, errors.New(http.StatusText(status)))
		return
	}
	x.expect = x.in.ProtoAtLeast(1, 1) && hasToken(x.in.Header["Expect"], "100-continue")
	x.trailers = x.requestTrailers()
	x.header = x.requestHeader()
	x.host = x.requestHost(x.header)
	res, err := x.send()
	if err == nil && x.cfg.ModifyResponse != nil {
		err = x.modify(res)
	}
	switch {
	case err != nil:
		x.fail(err)
	case res.StatusCode == http.StatusSwitchingProtocols:
		x.tunnel(res)
	default:
		x.respond(res)
	}
}

// ended accounts for a request that is over, also one that was broken off, and
// leaves nothing of it behind.
func (x *exchange) ended() {
	broken := recover()
	if broken != nil && broken != http.ErrAbortHandler {
		// net/http would log it where a service may not look.
		x.cfg.log.Error("panic while a request was served", "client", x.client, "err", broken, "stack", string(debug.Stack()))
	}
	x.answer()    // The upload may not write any more,
	x.body.stop() // nor read.
	x.drop()
	x.h.sessions.remove(&x.session)
	x.release()
	r, c := &x.record, &x.h.counters
	if broken != nil && r.Reason == "" {
		r.Reason = "panic"
	}
	r.Service, r.Client, r.Duration = x.cfg.Pool.config().Name, x.client, time.Since(r.Start)
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	c.active.Add(-1)
	x.cfg.leave()
	if x.cfg.Record != nil {
		x.cfg.Record(*r)
	}
	if broken != nil {
		panic(broken)
	}
}
