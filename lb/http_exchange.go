package lb

import (
	"errors"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// exchange is one request on its way to a backend, and the response on its way back.
type exchange struct {
	h      *Handler
	cfg    *handlerSettings
	w      http.ResponseWriter
	rc     *http.ResponseController
	in     *http.Request
	client netip.AddrPort
	record Record

	// The request as backends get it.
	header   http.Header
	host     string
	trailers []string // names
	upgrades []string // protocols that the client offers
	expect   bool     // the client waits for 100 (Continue)
	body     *replayBody

	// The latest attempt.
	pick    Pick // zero while there is no backend
	result  Result
	up      *upstream // nil: not connected
	upload  *upload
	cancel  func()      // ends the attempt
	unwatch func() bool // lets up outlive the request; false if it is too late

	session    session // what the pool and Shutdown cut
	registered bool    // Shutdown knows of the session
	duplex     bool    // the response may begin before the request ends

	// The response as the client gets it.
	origin    *originBody // what the backend sends, under ModifyResponse
	writing   sync.Mutex  // guards w until the final response begins
	answering bool        // the final response has begun
	unbounded bool        // its length is not known
	announced []string    // names of its trailers
	trailer   http.Header // the trailers, known after the body
}

// newExchange begins to account for a request. The request must end with endRequest.
func newExchange(h *Handler, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{h: h, cfg: h.enterSettings(), w: w, rc: http.NewResponseController(w), in: r, client: remoteAddr(r)}
	x.record.Start = time.Now()
	h.counters.accepted.Add(1)
	h.counters.active.Add(1)
	x.registered = h.sessions.add(&x.session)
	x.body = newReplayBody(r, x.rc, x.cfg.MaxBody, x.cfg.ClientTimeout)
	return x
}

// remoteAddr returns the client's address; zero if it is not an IP address.
func remoteAddr(r *http.Request) netip.AddrPort {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// serve answers the request.
func (x *exchange) serve() {
	// In full duplex net/http does not read the whole request before the response
	// begins.
	x.duplex = x.rc.EnableFullDuplex() == nil
	if !x.in.ProtoAtLeast(1, 1) {
		// The end of an HTTP/1.0 request with a Transfer-Encoding is uncertain (RFC 9112
		// §6.1), and net/http does not tell whether there was one.
		x.w.Header().Set("Connection", "close")
	}
	if status := x.refusalStatus(); status != 0 {
		x.refuseRequest(status, errors.New(http.StatusText(status)))
		return
	}
	x.expect = x.in.ProtoAtLeast(1, 1) && hasToken(x.in.Header["Expect"], "100-continue")
	x.trailers = x.requestTrailers()
	x.header = x.requestHeader()
	x.host = x.requestHost(x.header)
	res, err := x.sendRequest()
	if err == nil && x.cfg.ModifyResponse != nil {
		err = x.modifyResponse(res)
	}
	switch {
	case err != nil:
		x.failRequest(err)
	case res.StatusCode == http.StatusSwitchingProtocols:
		x.openTunnel(res)
	default:
		x.passResponse(res)
	}
}

// endRequest is deferred: it accounts for the request, however that has ended, and
// leaves nothing of it behind. A panic goes on.
func (x *exchange) endRequest() {
	broken := recover()
	if broken != nil && broken != http.ErrAbortHandler {
		// net/http logs panics where a service may not look.
		x.cfg.log.Error("panic while a request was served", "client", x.client, "err", broken, "stack", string(debug.Stack()))
	}
	x.beginAnswer()      // the upload may not write to the client any more,
	x.body.stopReading() // nor read from it
	x.dropUpstream()
	x.h.sessions.remove(&x.session)
	x.releasePick()
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
