package lb

import (
	"io"
	"net/http"
	"time"
)

// drop closes the connection to the backend, if there is one.
func (x *exchange) drop() {
	if x.cancel != nil {
		x.cancel()
		x.cancel = nil
	}
	if x.up != nil {
		x.up.Close()
		x.up = nil
	}
}

// release gives the backend back, if one has answered: there is nothing more to
// transfer.
func (x *exchange) release() {
	x.record.Received = max(x.record.Received, x.body.taken())
	if x.pick.pool == nil || x.pick.done {
		return
	}
	x.record.Backend = x.pick.Backend()
	x.pick.Transferred(x.record.Received, x.record.Sent)
	x.pick.Done(x.result)
}

// keep puts the connection to the backend aside for other requests, if request and
// response have both been transferred to their end and nobody has cut it.
func (x *exchange) keep(res *http.Response) {
	u := x.up
	if !x.uploadedWhole() || res.Close || !x.origin.isOver() || !x.unwatch() {
		return
	}
	x.up = nil
	x.cfg.idle.put(u)
}

// originBody is the body of a backend's response that ModifyResponse may read.
type originBody struct {
	io.ReadCloser
	over bool // it was read to its end
}

func (b *originBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.over = b.over || err == io.EOF
	return n, err
}

// isOver reports whether nothing is left to read on the connection. Where there is
// no ModifyResponse respond has read all.
func (b *originBody) isOver() bool { return b == nil || b.over }

// sentWithin is how long an upload may take to notice that it is complete.
const sentWithin = 50 * time.Millisecond

// uploadedWhole tells whether the backend has got the whole request.
func (x *exchange) uploadedWhole() bool {
	if !x.body.over.Load() {
		return false
	}
	timer := time.NewTimer(sentWithin)
	defer timer.Stop()
	select {
	case <-x.upload.done:
		return x.upload.err == nil
	case <-timer.C:
		return false
	}
}
