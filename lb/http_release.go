package lb

import (
	"io"
	"net/http"
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

// releasePick gives the backend back, if one has answered. Nothing more is transferred
// after that.
func (x *handling) releasePick() {
	x.record.Received = max(x.record.Received, x.body.bytesRead())
	if x.pick.pool == nil || x.pick.done {
		return
	}
	x.record.Backend = x.pick.Backend()
	x.pick.Transferred(x.record.Received, x.record.Sent)
	x.pick.Lasted(time.Since(x.record.Start))
	x.pick.Done(x.result)
}

// keepUpstream keeps the connection to the backend for other requests, if request and
// response have both been transferred to their end and the connection was not cut. What
// authenticates the connection makes it the client's.
func (x *handling) keepUpstream(res *http.Response) {
	u := x.up
	if !x.uploadedWhole() || res.Close || !x.origin.isOver() || !x.unwatch() {
		return
	}
	x.up = nil
	switch {
	case x.private:
		x.conn.keep(x.cfg.idle, u)
	case x.cfg.Reuse == ReuseNever:
		u.Close()
	default:
		x.cfg.idle.keepConn(u)
	}
}

func (b *originBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.over = b.over || err == io.EOF
	return n, err
}

// isOver reports whether the whole body was read. Without a ModifyResponse, b is nil and
// passResponse has read the body.
func (b *originBody) isOver() bool { return b == nil || b.over }

// sentWithin is how long an upload may take to find out that it is complete.
const sentWithin = 50 * time.Millisecond

// uploadedWhole reports whether the backend has got the whole request.
func (x *handling) uploadedWhole() bool {
	if !x.body.over.Load() {
		return false
	}
	select {
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
