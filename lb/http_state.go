package lb

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/havip/havip/internal/retry"
)

// handling is one request on its way to a backend, and the response on its way back.
type handling struct {
	h      *Handler
	cfg    *handlerSettings
	w      http.ResponseWriter
	rc     *http.ResponseController
	in     *http.Request
	client netip.AddrPort
	conn   *clientConn // nil: not known
	record Record

	ctx      context.Context    // ends when the client has left
	leave    context.CancelFunc // ends ctx; nil if that is the context of net/http
	unfollow func() bool        // lets the end of the context of net/http have no effect

	// The request as backends get it.
	target   string
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
	private bool      // up belongs to the client from now on
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
	owed      bool        // something of it may wait in a buffer
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

// handlerSettings are the settings of the requests that began while they were current.
type handlerSettings struct {
	HandlerConfig // with its defaults
	log           *slog.Logger
	dialer        dialer
	folds         foldRule

	requestFields, responseFields setFields // RequestHeaders, ResponseHeaders

	idle *idleConns
	gone registry // what the pool cuts: the Handler's sessions, and idle
}

// newHandlerSettings returns settings that watch no pool yet.
func newHandlerSettings(cfg HandlerConfig) *handlerSettings {
	cfg = cfg.WithDefaults()
	// The maps are the caller's, who may change them for the next Reconfigure.
	cfg.RequestHeaders, cfg.ResponseHeaders = maps.Clone(cfg.RequestHeaders), maps.Clone(cfg.ResponseHeaders)
	return &handlerSettings{
		HandlerConfig: cfg,
		log:           limitedLog(cfg.Logger),
		folds:         newFoldRule(cfg),
		requestFields: compileFields(cfg.RequestHeaders), responseFields: compileFields(cfg.ResponseHeaders),
		dialer: dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS, dial: cfg.Dial},
		idle:   new(idleConns),
	}
}

// mayShareConns reports whether the connections to backends that were made with prev,
// which may be nil, are what s would make. Two Dials cannot be compared.
func (s *handlerSettings) mayShareConns(prev *handlerSettings) bool {
	return prev != nil && s.Pool == prev.Pool && s.BackendTLS == prev.BackendTLS && s.Dial == nil && prev.Dial == nil
}

// dialUpstream connects to a picked backend.
func (s *handlerSettings) dialUpstream(ctx context.Context, pick Pick) (*upstream, error) {
	start := time.Now()
	c, err := s.dialer.connect(ctx, pick, nil)
	if starved(err) && s.idle.giveWay() && retry.Pause(ctx, starvedFor) {
		c, err = s.dialer.connect(ctx, pick, nil)
	}
	if err != nil {
		return nil, err
	}
	pick.Connected(time.Since(start))
	return newUpstream(c, s.destinationOf(pick)), nil
}

// destinationOf returns which kept connections a request for a picked backend may use.
func (s *handlerSettings) destinationOf(pick Pick) destination {
	return destination{server: pick.member.server, address: pick.Address(), tls: s.dialer.tlsFor(pick)}
}
