package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/report"
)

// maxWork is how many answers one listener may make at the same time: the processors are
// the daemon's in the first place, and a flood by TCP does not keep the socket waiting.
const maxWork = 2

// workTimeout is for how long a request waits for its turn.
const workTimeout = 5 * time.Second

// failure is an error with its status.
type failure struct {
	status int
	text   string
}

func (f failure) Error() string { return f.text }

func failf(status int, format string, args ...any) error {
	return failure{status, fmt.Sprintf(format, args...)}
}

// errorBody is what every error looks like.
type errorBody struct {
	Error string `json:"error"`
}

// call is one request on its way.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	client  *client
	set     *settings
	by      access
	args    map[string]string // of the path
	control *http.ResponseController
	sent    bool // the answer has begun: there is no room for an error
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, set: s.settings.Load(), control: http.NewResponseController(w)}
	c.client, _ = r.Context().Value(clientKey{}).(*client)
	_ = c.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's writer has none
	defer s.survive(c)
	secure(w.Header())
	if err := s.answer(c); err != nil {
		s.fail(c, err)
	}
}

// survive ends one request, and nothing else, if its handler panics.
func (s *Server) survive(c *call) {
	p := recover()
	switch {
	case p == nil:
	case p == http.ErrAbortHandler:
		panic(p)
	default:
		s.log.Error("admin: a request panicked", "method", c.r.Method, "path", c.r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()), panicLimit.By(nil))
		if c.sent {
			panic(http.ErrAbortHandler) // the client must not take what it has for the whole
		}
		s.fail(c, failf(http.StatusInternalServerError, "a fault of havip: its log has more"))
	}
}

var panicLimit = quietlog.Limit{Every: time.Minute, Burst: 3}

// secure sets the headers that every answer has.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// answer finds out who asks, whether they may, and has the route's handler do the rest.
func (s *Server) answer(c *call) error {
	if c.client == nil || c.client.refused {
		c.w.Header().Set("Connection", "close")
		c.w.Header().Set("Retry-After", "1")
		return failf(http.StatusServiceUnavailable, "too many connections: at most %d, of one address, or user, %d: close some", maxClients, maxPerAddress)
	}
	if err := s.checkOrigin(c); err != nil {
		return err
	}
	var err error
	if c.by, err = s.accessOf(c); err != nil {
		return err
	}
	rt, err := s.find(c)
	if err != nil {
		return err
	}
	if err := s.permit(c, rt); err != nil {
		return err
	}
	if err := s.refuseAbsent(c, rt); err != nil {
		return err
	}
	if rt.raw != nil {
		return rt.raw(c)
	}
	text, err := s.make(c, rt)
	switch {
	case err != nil:
		return err
	case text == nil:
		c.sent = true
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.send(http.StatusOK, "application/json", text)
}

// make has a handler make its answer; nil: there is nothing to say. Those that only read
// take turns, but nobody waits for a client to take its answer.
func (s *Server) make(c *call, rt *route) ([]byte, error) {
	if !rt.steers && !rt.light {
		done, err := s.turn(c)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	result, err := rt.answer(c)
	if err != nil || result == nil {
		return nil, err
	}
	return marshal(result)
}

// permit reports why a route is not for who asks, or not in this way.
func (s *Server) permit(c *call, rt *route) error {
	if rt.steers && !c.by.steers {
		if c.client.address != "" && s.canLogIn(c.set) {
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="havip"`)
			s.refused(c, rt)
			return failf(http.StatusUnauthorized, "%s", c.by.hint)
		}
		s.refused(c, rt)
		return failf(http.StatusForbidden, "%s", c.by.hint)
	}
	if safe(c.r.Method) {
		return nil
	}
	// A page elsewhere can send neither this type nor this header unasked, and nobody
	// answers when its browser asks.
	if s := c.by.session; s != nil && rt.steers && !s.confirms(c.r.Header.Get(csrfHeader)) {
		return failf(http.StatusForbidden, "header %s is not that of this session: load the page again", csrfHeader)
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if c.r.Method != http.MethodDelete && (err != nil || kind != "application/json") {
		return failf(http.StatusUnsupportedMediaType, "want the header Content-Type: application/json")
	}
	return nil
}

// refuseAbsent keeps what nobody waits for any more from being done. A process that was
// frozen finds such requests when it wakes up: whoever sent them was told that no havip
// answers, and may have done something else since.
func (s *Server) refuseAbsent(c *call, rt *route) error {
	if !rt.steers || !isGone(c.client.Conn) {
		return nil
	}
	err := failf(http.StatusRequestTimeout, "who asked did not wait for the answer: nothing is done")
	s.log.Warn("not steered", "what", rt.method+" "+c.r.URL.Path, "by", c.by.who, "err", err)
	return err
}

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// turn waits until few enough make an answer. The caller calls done when it has made one.
func (s *Server) turn(c *call) (done func(), err error) {
	work := c.client.gate.work
	select {
	case work <- struct{}{}:
		return func() { <-work }, nil
	default:
	}
	timer := time.NewTimer(workTimeout)
	defer timer.Stop()
	select {
	case work <- struct{}{}:
		return func() { <-work }, nil
	case <-timer.C:
	case <-c.r.Context().Done():
	}
	c.w.Header().Set("Retry-After", "1")
	return nil, failf(http.StatusServiceUnavailable, "too many requests at the same time: ask less often")
}

// fail answers with an error.
func (s *Server) fail(c *call, err error) {
	status := http.StatusInternalServerError
	var f failure
	switch {
	case errors.As(err, &f):
		status = f.status
	case errors.Is(err, report.ErrUnknown):
		status = http.StatusNotFound
	case errors.Is(err, report.ErrState):
		status = http.StatusConflict
	case errors.Is(err, report.ErrInvalid):
		status = http.StatusBadRequest
	}
	_ = c.write(status, errorBody{err.Error()})
}

// write sends a value as JSON.
func (c *call) write(status int, value any) error {
	text, err := marshal(value)
	if err != nil {
		return err
	}
	return c.send(status, "application/json", text)
}

// takes makes time for a request whose work takes up to d. A deadline for reading would
// end the request, although all of it is read.
func (c *call) takes(d time.Duration) {
	_ = c.control.SetWriteDeadline(time.Now().Add(d + writeTimeout))
	_ = c.control.SetReadDeadline(time.Time{})
}

// send sends a whole answer. That the client does not take it is its own affair.
func (c *call) send(status int, kind string, text []byte) error {
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	c.sent = true
	c.w.WriteHeader(status)
	_, _ = c.w.Write(text)
	return nil
}

// marshal makes JSON with a line end, in which a list without items is one.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(withLists(value)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
