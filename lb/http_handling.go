package lb

import (
	"errors"
	"net/http"
	"runtime/debug"
	"time"
)

// serve answers the request.
func (x *handling) serve() {
	// In full duplex net/http does not read the whole request before the response
	// begins.
	x.duplex = x.rc.EnableFullDuplex() == nil
	if x.endUncertain() {
		x.w.Header().Set("Connection", "close")
	}
	if status := x.refusalStatus(); status != 0 {
		x.refuseRequest(status, errors.New(http.StatusText(status)))
		return
	}
	forwards, last, _ := forwardsLeft(x.in.Method, x.in.Header["Max-Forwards"])
	if last {
		x.answerLast()
		return
	}
	x.expect = x.in.ProtoAtLeast(1, 1) && hasToken(x.in.Header["Expect"], "100-continue")
	x.trailers = x.requestTrailers()
	x.header = x.requestHeader(forwards)
	x.host = x.requestHost(x.header)
	res, err := x.sendRequest()
	if err == nil {
		x.private = x.up.to.owner != nil || connectionBound(x.header, res.StatusCode, res.Header)
	}
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

// endUncertain reports whether the client, or a proxy before this one, may see the end of
// the request elsewhere. Then nothing that follows on the connection may be taken for a
// request. That is so for HTTP/1.0 with a Transfer-Encoding, and for HTTP/1.1 with a
// Content-Length beside it (RFC 9112 §6.1): net/http hides the Content-Length, so all chunks
// count. It is so for CONNECT, too: a client may send at once what its tunnel should carry.
func (x *handling) endUncertain() bool {
	return !x.in.ProtoAtLeast(1, 1) || x.in.ProtoMajor == 1 && (len(x.in.TransferEncoding) > 0 || x.in.Method == http.MethodConnect)
}

// endRequest is deferred: it accounts for the request, however that has ended, and
// leaves nothing of it behind. A panic goes on.
func (x *handling) endRequest() {
	defer x.h.sessions.remove(&x.session) // last: Shutdown may return then
	broken := recover()
	if broken != nil && broken != http.ErrAbortHandler {
		// net/http logs panics where a service may not look.
		x.cfg.log.Error("panic while a request was served", "client", x.client, "err", broken, "stack", string(debug.Stack()))
	}
	x.beginAnswer()      // the upload may not write to the client any more,
	x.body.stopReading() // nor read from it
	x.unfollowClient()
	x.dropUpstream()
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
	if x.cfg.Record != nil {
		x.cfg.Record(*r)
	}
	if broken != nil {
		panic(broken)
	}
}
