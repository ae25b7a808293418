package lb

import (
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/havip/havip/lb/internal/h1"
)

// handling serves one request of net/http: it has the connections to client and backend, and
// carries out what its exchange decides.
type handling struct {
	exchange
	h      *Handler
	w      http.ResponseWriter
	rc     *http.ResponseController
	in     *http.Request
	head   h1.Request    // of in
	client requestOrigin // of in
	conn   *clientConn   // nil: not known, or not of HTTP/1
	owner  *clientConn   // nil: not known

	ctx      context.Context    // ends when the client has left
	leave    context.CancelFunc // ends ctx; nil if that is the context of net/http
	unfollow func() bool        // lets the end of the context of net/http have no effect

	body   *replayBody
	duplex bool // the response may begin before the request ends

	// The latest attempt.
	up      *upstream // nil: not connected
	upload  *upload
	cancel  func()      // ends the attempt
	unwatch func() bool // lets up outlive the request; false if it is too late

	session    session // what the pool and Shutdown cut
	registered bool    // Shutdown knows of the session

	// The response: as it came or, of all but origin, as ModifyResponse has left it.
	res      h1.Response
	origin   *backendBody   // what the backend sends
	content  io.ReadCloser  // what the client gets; nil: origin
	modified *http.Response // has the trailers; nil: origin has

	// The response as the client gets it.
	writing   sync.Mutex  // guards w until the final response begins
	answering bool        // the final response has begun
	owed      bool        // something of it may wait in a buffer
	trailer   http.Header // known after the body
}

// upload is a request on its way to a backend.
type upload struct {
	answered  chan struct{} // closed when the final response has begun
	continued chan struct{} // closed when the backend asks for the body
	done      chan struct{} // closed at the end of the upload
	err       error         // why the upload ended; valid once done is closed, like broken
	broken    any           // panic of a ResponseWriter, which the request's own goroutine passes on
}
