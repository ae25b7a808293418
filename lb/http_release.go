package lb

import (
	"time"
)

// dropUpstream closes the connection to the backend, if there is one.
func (x *handling) dropUpstream() {
	if x.cancel != nil {
		x.cancel()
		x.cancel = nil
	}
	if x.up != nil {
		x.up.Close()
		x.up = nil
	}
}

// noteReceived records how much of the request's body has come.
func (x *handling) noteReceived() {
	x.record.Received = max(x.record.Received, x.body.bytesRead())
}

// keepUpstream keeps the connection to the backend for other requests, if request and
// response have both been transferred to their end and the connection was not cut. What
// authenticates the connection makes it the client's.
func (x *handling) keepUpstream() {
	u := x.up
	if !x.uploadedWhole() || x.res.Close || !x.origin.over() || !x.unwatch() {
		return
	}
	x.up = nil
	switch {
	case u.stream != nil:
		if x.private { // nobody else may be taken for this client
			u.shared.Retire()
		}
		u.Close()
	case x.private:
		x.conn.keep(x.cfg.idle, u)
	case x.cfg.Reuse == ReuseNever:
		u.Close()
	case u.to.header != "":
		x.owner.keepOwned(x.cfg.idle, u)
	default:
		x.cfg.idle.keepConn(u)
	}
}

// sentWithin is how long an upload may take to find out that it is complete.
const sentWithin = 50 * time.Millisecond

// uploadedWhole reports whether the backend has got the whole request.
func (x *handling) uploadedWhole() bool {
	if !x.body.over.Load() && x.body.bytesRead() != x.in.ContentLength {
		return false
	}
	select { // in HTTP/2 the end of the stream may come behind the last byte
	case <-x.upload.done:
		return x.upload.err == nil
	default:
	}
	_ = x.flush() // a client that does not take it is noticed later
	timer := time.NewTimer(sentWithin)
	defer timer.Stop()
	select {
	case <-x.upload.done:
		return x.upload.err == nil
	case <-timer.C:
		return false
	}
}
