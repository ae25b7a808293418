package lb

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/havip/havip/lb/internal/h1"
)

// exchange is one request and the response to it: what is decided about them, and what is
// counted. It neither reads nor writes: whoever has the connections calls its methods, in
// about the order in which they stand here.
//
//	open
//	refusal, decide         no backend gets the request
//	decide                  maybe the answer is made here
//	prepare                 what backends get
//	attempt, attemptFailed  one backend after the other
//	responded               one has answered
//	responseFields          what the client gets
//	release, close
//
// Strings refer to the memory of the heads, or to text: none outlives the request. An
// exchange can serve many requests, one after the other, and keeps its memory for them.
type exchange struct {
	cfg   *handlerSettings
	count *counters
	from  *requestOrigin
	req   *h1.Request
	major int           // of the client's HTTP: 1 or 2
	hook  *http.Request // for the functions of HandlerConfig; nil: there are none

	client  netip.AddrPort // the real one, if from is a proxy that is trusted; see findClient
	trusted bool           // from is such a proxy

	record Record
	told   RequestRecord // of record, which describe completes
	flow   Flow          // in which the request looks for backends

	token, tokens string // of the client's cookie: of this pool, and all; see Sticky

	// The request as backends get it.
	target    string
	authority string // the host that the client asks, of the target or of Host
	host      string // the Host that backends get
	forwards  string // the Max-Forwards that backends get; empty: it stays as it is
	fields    []h1.Field
	trailers  []string // names of the fields that may come after the body
	upgrades  []string // protocols that the client offers
	socket    string   // the Sec-WebSocket-Key for backends, of a WebSocket over HTTP/2; empty: it is none
	expect    bool     // the client waits for 100 (Continue)
	length    int64    // of the body as backends get it, or h1.Chunked

	// What decide has found out.
	reply   reply
	claim   claim          // see checkLogin
	user    string         // who has logged in; empty: nobody was asked to
	route   *route         // nil: none
	path    string         // as Route has it
	matched *regexp.Regexp // of route, if that is why it was taken
	groups  []int          // what its groups have matched in path; nil: not known yet
	counted bool           // among the client's requests under way, until close

	// The latest attempt.
	tries   int
	last    error  // of the attempt before; nil: there was none
	pick    Pick   // zero while there is no backend
	result  Result // for pick
	private bool   // the connection to the backend belongs to the client from now on
	poor    bool   // pick has answered with what is a failure
	hinted  bool   // the client has got an informational response of a backend

	// The response as the client gets it.
	answer    []h1.Field
	source    netip.Addr // this host's in the connection to the backend
	minor     int        // of the backend's version, if that is HTTP/1
	unbounded bool       // its length is not known before its end
	dated     bool       // it needs no Date of ours
	announced []string   // names of its trailers
	encoder   *encoder   // compresses it; nil: nothing does, or not any more
	encoded   bool       // it is compressed here

	madeID  [32]byte // memory of told.RequestID,
	random  [16]byte // and of what it is made of: a variable would be on the heap under the race detector
	text    []byte   // memory of what is written for this request
	options []string // what Connection names; see readOptions
}

// requestOrigin is where requests come from. There is one for each connection of a client.
type requestOrigin struct {
	client, local         netip.AddrPort       // zero: not known
	clientText, localText string               // the addresses, for backends
	secure                *tls.ConnectionState // nil: no TLS
	text                  *secureText          // of secure; nil: no header has had it yet
	headerText            string               // of header, in the version headerOf
	headerOf              ProxyVersion
}

func newRequestOrigin(client, local netip.AddrPort, secure *tls.ConnectionState) requestOrigin {
	return requestOrigin{client: client, local: local, clientText: addrString(client.Addr()), localText: addrString(local.Addr()), secure: secure}
}

const (
	// keptText is how much memory for text an exchange keeps for its next request.
	keptText = 4 << 10
	// keptNames is how many names it keeps room for. Most requests need none.
	keptNames = 16
)

// open begins to account for a request of HTTP/1; the caller may change major, and set hook.
// It must end with close.
func (x *exchange) open(cfg *handlerSettings, count *counters, from *requestOrigin, req *h1.Request, start time.Time) {
	x.forget()
	x.cfg, x.count, x.from, x.req, x.major, x.record.Start = cfg, count, from, req, 1, start
	x.findClient()
	cfg.budget.note(start, &count.accepted)
	count.begin()
}

// forget has x keep nothing but memory: of a request there may be a password, and it leads to a
// whole configuration, which may be an earlier one.
func (x *exchange) forget() {
	*x = exchange{
		fields: x.fields[:0], answer: x.answer[:0], text: room(x.text, keptText), options: room(x.options, keptNames),
		trailers: room(x.trailers, keptNames), upgrades: room(x.upgrades, keptNames), announced: room(x.announced, keptNames),
		reply: reply{fields: x.reply.fields[:0]},
	}
}

// room returns the memory of s, empty, unless that is more than most would need.
func room[E any](s []E, most int) []E {
	if cap(s) > most {
		return nil
	}
	return s[:0]
}

// release gives the backend back, if one has answered. Nothing more is transferred after
// that.
func (x *exchange) release(now time.Time) {
	if x.pick.pool == nil || x.pick.done {
		return
	}
	x.record.Backend = x.pick.Backend()
	x.pick.Transferred(x.record.Received, x.record.Sent)
	x.pick.Lasted(now.Sub(x.record.Start))
	x.pick.Done(x.result)
}

// close accounts for the request, however that has ended. The record has been filled in by
// then: Received, Sent, Connect, and Reason and Status if no method of x has set them.
func (x *exchange) close(now time.Time) {
	x.release(now)
	x.dropEncoder()
	if x.counted {
		x.counted = false
		x.cfg.requests.release(x.client.Addr())
	}
	r, c := &x.record, x.count
	r.Service, r.Client, r.Duration = x.cfg.Pool.config().Name, x.client, now.Sub(r.Start)
	if x.client != x.from.client {
		r.Peer = x.from.client
	}
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	c.active.Add(-1)
	if x.cfg.Record != nil {
		x.describe()
		x.cfg.Record(*r)
	}
}

// modern reports whether the client knows what came with HTTP/1.1.
func (x *exchange) modern() bool { return x.major > 1 || x.req.Minor > 0 }

// written returns what was appended to x.text from start on, as a string. The memory is not
// written again during the request.
func (x *exchange) written(start int) string { return bytesText(x.text[start:]) }
