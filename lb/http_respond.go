package lb

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/havip/havip/internal/inet"
)

// passResponse passes the response on to the client.
func (x *handling) passResponse() {
	// The upload must not write a 100 (Continue) between here and the header.
	x.beginAnswer()
	x.setHeader(x.responseFields(&x.res, x.sourceAddr()))
	x.responded(&x.res, x.private)
	x.body.settle()
	x.w.WriteHeader(x.res.Status)
	if x.content != nil {
		defer x.content.Close()
	}
	if err := x.copyBody(); err != nil {
		x.breakOff(err)
	}
	x.readTrailer()
	// The backend is free from here on, however long the client takes.
	x.keepUpstream()
	x.noteReceived()
	x.succeeded(time.Now())
	x.finishResponse()
}

// interceptResponse answers with a page in the place of the response. The connection to the
// backend goes on if the body is here already: nobody waits for what is thrown away.
func (x *handling) interceptResponse() {
	x.beginAnswer()
	x.responded(&x.res, x.private)
	x.body.settle()
	if x.content != nil {
		x.content.Close()
	}
	x.intercept(&x.res)
	x.origin.discardHere()
	x.keepUpstream()
	x.dropUpstream()
	x.noteReceived()
	x.succeeded(time.Now())
	x.answerHere()
}

// readTrailer sets the trailer that the client gets.
func (x *handling) readTrailer() {
	trailer := x.origin.trailer
	if x.modified != nil {
		trailer = headerFields(nil, x.modified.Trailer)
	}
	x.trailer = headerOf(x.responseTrailer(nil, trailer), nil)
}

// sourceAddr returns this host's address in the connection to the backend.
func (x *handling) sourceAddr() netip.Addr { return inet.AddrPort(x.up.LocalAddr()).Addr() }

// copyBody copies the body of the response to the client. Nothing waits in a buffer while
// the backend is awaited, neither the header nor a piece of the body. What is here already
// goes out together: most responses are one write.
func (x *handling) copyBody() error {
	// A header that is the whole response goes out with the end of it: gRPC has answers of
	// that kind. HTTP/1.1 knows the end by the header.
	x.owed = x.major == 1 || x.content != nil || !x.origin.over()
	content := x.content
	if content == nil {
		content = x.origin
		x.up.reader = x // which flushes when a read would wait
		defer func(u *upstream) { u.reader = nil }(x.up)
	}
	x.awaitClient()
	if err := x.flushBefore(); err != nil {
		return err
	}
	err := copyPieces(content, func(p []byte) error {
		x.awaitClient()
		x.owed = true
		if err := x.writePiece(p); err != nil {
			return err
		}
		return x.flushBefore()
	})
	if err == nil && x.encoder != nil {
		x.awaitClient()
		err = x.writeEncoded(x.encoder.end())
		x.dropEncoder()
	}
	return err
}

// writePiece writes a piece of the body.
func (x *handling) writePiece(p []byte) error {
	if x.encoder != nil {
		return x.writeEncoded(x.encoder.encode(p))
	}
	return x.writeContent(p)
}

// writeEncoded writes what an encoder has made.
func (x *handling) writeEncoded(made []byte, err error) error {
	if err != nil || len(made) == 0 {
		return err
	}
	return x.writeContent(made)
}

// writeContent writes content as the client gets it.
func (x *handling) writeContent(p []byte) error {
	if _, err := x.w.Write(p); err != nil {
		return errClient{err}
	}
	x.record.Sent += int64(len(p))
	return nil
}

// flushBefore flushes before a read of a body that a ModifyResponse has put in the place of
// the backend's: nobody knows what it waits for.
func (x *handling) flushBefore() error {
	if x.up.reader != nil {
		return nil
	}
	return x.flush()
}

// flush sends the client what it is owed.
func (x *handling) flush() error {
	if !x.owed {
		return nil
	}
	x.owed = false
	if x.encoder != nil {
		if err := x.writeEncoded(x.encoder.flush()); err != nil {
			return err
		}
	}
	if err := x.rc.Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errClient{err}
	}
	x.letClientRest()
	return nil
}

// breakOff ends an incomplete response so that the client can tell.
func (x *handling) breakOff(err error) {
	x.brokenOff(err, x.attempt())
	_ = x.flush() // what came before belongs to the client
	if x.unbounded && !x.chunked() {
		// The end of the connection would end the response in order: only a reset does not.
		x.body.stopReading()
		if conn, _, err := x.rc.Hijack(); err == nil {
			reset(conn)
		}
	}
	panic(http.ErrAbortHandler)
}
