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
	if x.endUncertain() || x.owner != nil && x.cfg.lastOfConnection(int(x.owner.requests.Add(1))) {
		x.w.Header().Set("Connection", "close")
	}
	status := x.refusal()
	if err := x.refuseConnect(); err != nil {
		x.refuseRequest(http.StatusNotImplemented, err)
		return
	}
	if status != 0 {
		x.refuseRequest(status, errors.New(http.StatusText(status)))
		return
	}
	v := x.decide()
	if v == awaitHere {
		err := logins.verify(x.ctx, x.claim)
		if err != nil && err == x.ctx.Err() {
			x.failRequest(errLeft)
		}
		v = x.decideLogin(err)
	}
	switch {
	case v == answerHere:
		x.answerHere()
	case v == closeHere:
		panic(http.ErrAbortHandler)
	case v == refuseHere:
		x.refuseHere()
	case x.socket != "" && x.cfg.BackendProtocol == BackendHTTP2:
		x.refuseRequest(http.StatusNotImplemented, errNoSocket)
	default:
		x.passOn()
	}
}

// passOn has a backend answer the request.
func (x *handling) passOn() {
	x.body.follow(&x.cfg.HandlerConfig)
	x.prepare()
	x.flow.prefer = x.conn.boundTo(x.cfg.idle).server
	err := x.bufferBody()
	if err == nil {
		err = x.sendRequest()
	}
	if err == nil {
		x.noteHead(x.res.Status, time.Now())
		x.private = x.up.to.login || x.bindsConnection(&x.res)
		if x.cfg.ModifyResponse != nil {
			err = x.modifyResponse()
		}
	}
	switch {
	case err != nil:
		x.failRequest(err)
	case x.socket != "" && x.res.Status < 300:
		x.openSocket()
	case x.res.Status == http.StatusSwitchingProtocols:
		x.openTunnel()
	case x.intercepts(x.res.Status):
		x.interceptResponse()
	default:
		x.passResponse()
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
	x.noteReceived()
	x.body.release()
	if broken != nil && x.record.Reason == "" {
		x.record.Reason = "panic"
	}
	x.close(time.Now())
	if broken != nil {
		panic(broken)
	}
}
