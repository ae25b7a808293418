package lb

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
)

// handlerPlane is what requests need of their Handler.
type handlerPlane struct {
	sessions registry // one for each request
	counters counters
}

// exchange is one request on its way to a backend, and the response on its way back.
type exchange struct {
	h      *handlerPlane
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

// upload is a request on its way to a backend.
type upload struct {
	answered  chan struct{} // closed when the final response has begun
	continued chan struct{} // closed when the backend asks for the body
	done      chan struct{} // closed at the end of the upload
	err       error         // why the upload ended; valid once done is closed, like broken
	broken    any           // panic of a ResponseWriter, which the request's own goroutine passes on
}

// originBody is the body of a backend's response that ModifyResponse may read.
type originBody struct {
	io.ReadCloser
	over bool // it was read to its end
}
