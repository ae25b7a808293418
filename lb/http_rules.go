package lb

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// Rules are what a Handler decides about requests and responses by itself, beside choosing a
// backend. The zero value has none, and costs nothing.
//
// They come in the order of the fields: Maintenance, Access, limits, Redirect, Auth, Answer,
// Rewrite. Whatever turns a request away or answers it ends that, and no backend hears of it.
type Rules struct {
	// Maintenance answers all requests with 503.
	Maintenance bool
	// MaintenancePage is what they get. nil, or an empty one: the ErrorPage for 503.
	MaintenancePage *Page
	// RetryAfter is when clients are asked to come again, of those that get 503 for
	// Maintenance, or a Sorry page: Retry-After, in whole seconds. Default 1 min; negative:
	// nothing is said.
	RetryAfter time.Duration
	// Access says which clients get an answer: the first rule whose network has the client
	// counts. A client of none of them is allowed, as in nginx. One that is denied gets 403.
	Access []AccessRule
	// MaxURI bounds the bytes of a request's target, as the client sends it. Longer ones get
	// 414. 0 or negative: no bound but MaxHeader; 0 of a route: the Handler's. What is longer
	// than the Handler and all routes allow gets 414 before a route is looked for, whatever
	// else the Rules say of it.
	MaxURI int
	// RequestRate is how many requests per second a client may send in the long run,
	// RequestBurst how many at once: one more than the burst of nginx's limit_req with nodelay.
	// RequestsPerClient is how many it may have under way at once. Further ones get 429 with
	// Retry-After. A client is counted as with [Limits]: IPv6 clients by /64; one whose
	// address is not known is not. It is the real one behind TrustedProxies. Requests of
	// routes count together with those of the Handler, but for a route that has one of these
	// fields: that counts for itself. 0 or negative: any number; 0 of a route: the Handler's.
	// Default of RequestBurst: RequestRate, but 1 at least.
	RequestRate       float64
	RequestBurst      int
	RequestsPerClient int
	// RequestsPerConnection is how many requests a client may send on a connection: the answer
	// to the last says so (Connection: close, GOAWAY in HTTP/2). Behind net/http it needs
	// [TrackConns]. 0: any number.
	RequestsPerConnection int
	// Redirect sends clients elsewhere, Answer answers them, with a content that is fixed but
	// for variables: no backend gets the request. Redirect comes first. Of a Handler
	// with Routes they are for the requests without a route.
	Redirect Redirect
	Answer   Answer
	// Auth asks clients for a user and a password: who has none gets 401. It comes before Answer
	// and behind Redirect, which may lead to TLS. (In nginx return and rewrite come before Access
	// and Auth.) nil: nobody is asked.
	Auth *BasicAuth
	// Rewrite changes the path that backends get. Of a Handler with Routes it is for the
	// requests without a route.
	Rewrite Rewrite

	// RewriteLocation changes the URLs to which backends redirect clients: the first one that
	// matches counts. Those of a Redirect stay as they are. A URL that should stay as it is
	// takes an item of its own, before others that match it: of /app/ to /app/, for instance.
	// A route without any has the Handler's. nil: none.
	RewriteLocation []LocationRewrite

	// Sorry is what answers, with 503, while no backend is there to get a request. nil, or an
	// empty one: the ErrorPage for 503.
	Sorry *Page
	// ErrorPages are what answers by itself have that tell of an error, whatever that is. They
	// have no effect beside an ErrorHandler.
	ErrorPages []ErrorPage
	// InterceptErrors puts ErrorPages in the place of backends' responses, too
	// (proxy_intercept_errors of nginx).
	InterceptErrors bool

	// AddRequestHeaders are added to requests to backends, and AddResponseHeaders to responses
	// of backends and to answers made here, beside what is there already: a further Set-Cookie
	// or Link, for instance. Values are as in RequestHeaders and ResponseHeaders; an empty one
	// adds nothing. Each value is a field of its own. Names keep the case they are written in.
	AddRequestHeaders, AddResponseHeaders http.Header
	// Forwarded gives backends a Forwarded (RFC 7239) with for, host and proto, at the end of
	// the one that has come, unless X-Forwarded-For would be dropped (see TrustedProxies), or
	// what has come cannot be parsed.
	Forwarded bool
	// Via is how this proxy calls itself in Via (RFC 9110 §7.6.3), behind the version in which a
	// message has come: a name such as lb, or a host. It is added to requests, and to responses
	// of backends. Default: none is added.
	Via string
	// RequestID says which X-Request-ID backends and clients get. Default RequestIDOff.
	RequestID RequestID
	// SendProxy is the version of the PROXY header that connections to backends begin with,
	// in front of TLS if there is TLS. The header names the client's connection, and what
	// follows belongs to that: other clients never get such a connection, and it ends with the
	// client's. So a client has a connection of its own to each backend that it gets to, of
	// HTTP/2 as well. Where clients are not known, for lack of [TrackConns], each request has
	// one. Default ProxyNone.
	SendProxy ProxyVersion

	// Buffering has the body of a request read before a backend is chosen: a slow client
	// occupies none, and whatever its size, the body can be sent to a second backend. The
	// backend gets a Content-Length, also where the client has sent chunks, unless a trailer
	// comes with these. A client that expects 100 (Continue) gets that at once. Requests of
	// HTTP/2, of gRPC, and those that offer an Upgrade are streamed. If there is no room the
	// rest of a body is streamed, and all bodies are where the folder cannot be written: the
	// Logger gets a warning. Default: on in HTTP, off in a Handler that something else serves.
	Buffering Buffering
	// BufferMemory is how much of a body is held in memory. A longer one goes to a file. 1 KiB
	// to 16 MiB, default 64 KiB.
	BufferMemory int64
	// BufferFolder is where these files are. They have no name, and nobody else can read them.
	// Default /var/tmp.
	BufferFolder string
	// BufferTotal bounds the bytes that they have together. One file may have half of those that
	// are left beside it, which is a third of all if there is no other: whoever sends one large
	// body does not keep others from being buffered. 1 MiB to 64 GiB, default 1 GiB.
	BufferTotal int64
	// MinRate is how many bytes of a body a client must send per second, on average, while more
	// of it is awaited. One that is slower for MinRateGrace gets 408: ClientTimeout alone ends
	// none that sends a byte now and then. A backend that takes its time does not count. With it
	// a client may not be silent for longer than MinRateGrace: the stream of a gRPC call, or
	// events that are sent as they occur, need a route without. Responses need none: within each
	// ClientTimeout a client must have taken about what its socket holds.
	//
	// 0 or negative: any rate; 0 of a route: the Handler's. Any by default: nobody can tell a
	// client that has nothing to send from one that holds back. 240 is what IIS wants.
	// Default of MinRateGrace: 30 s.
	MinRate      int
	MinRateGrace time.Duration
	// Compress says which responses are compressed. nil: none; one without Encodings: none, too.
	Compress *Compress

	// Unlogged keeps requests out of an [AccessLog], and of what [LogRecords] logs, whatever comes
	// of them (access_log off of nginx). Their Records say so, and they count like others: in
	// Stats, too.
	Unlogged bool

	// Sticky has each client come back to its backend. nil: none.
	Sticky *Sticky
	// HashKey is what KeyHash ties to a backend: a value with variables, as RequestHeaders
	// have them, such as ${cookie_session}, ${header_X-User}, ${uri}, ${path} or ${arg_id}. A
	// request in which all of them are empty has the client's address for a key. A Key of the
	// HandlerConfig comes first. Default: the request's path.
	HashKey string
	// RetryStatuses are the statuses for which a backend's response is thrown away and another
	// backend is asked, as with nginx's proxy_next_upstream: within Tries, the RetryBudget, and
	// what is said of Handler about repeating requests. Where there is no other backend the
	// client gets the response as it came, and so does one that has had an informational response
	// (103) before. One with 429 or 500 to 599 is a failure of the
	// backend in any case. 400 to 599, but not 401 or 407. nil: none.
	RetryStatuses []int
	// RetryBudget bounds further attempts of requests that a backend has seen: as many percent
	// of the requests of the last 10 s, and 100 of them in any case. What no backend has seen
	// does not count. 1 to 100, default 10; negative: no bound.
	RetryBudget int
	// RetryNonIdempotent also sends POST, PATCH and other methods to another backend when one
	// has seen the request, which may then be done twice.
	RetryNonIdempotent bool
}

// WithDefaults returns r with its zero fields filled in.
func (r Rules) WithDefaults() Rules {
	r.RetryBudget = cmp.Or(r.RetryBudget, defaultRetryBudget)
	r.RetryAfter = cmp.Or(r.RetryAfter, defaultRetryAfter)
	r.Buffering = cmp.Or(r.Buffering, BufferingOff)
	r.BufferMemory = cmp.Or(r.BufferMemory, defaultBufferMemory)
	r.BufferFolder = cmp.Or(r.BufferFolder, defaultBufferFolder)
	r.BufferTotal = cmp.Or(r.BufferTotal, defaultBufferTotal)
	r.MinRateGrace = cmp.Or(r.MinRateGrace, defaultMinRateGrace)
	if r.RequestRate > 0 {
		r.RequestBurst = cmp.Or(r.RequestBurst, max(1, int(r.RequestRate)))
	}
	return r
}

// decide reports whether there are rules for requests.
func (r *Rules) decide() bool {
	return len(r.Access) > 0 || r.Maintenance || compileAuth(r.Auth) != nil || r.Redirect != Redirect{} || r.Answer != Answer{} || r.Rewrite != Rewrite{} || r.limitsRequests()
}

// answers reports whether there are rules that answer in the place of backends: maybe not all
// requests, as a redirect to https.
func (r *Rules) answers() bool {
	return r.Maintenance || r.Redirect.Location != "" || r.Answer.Status != 0
}

// Validate returns all that is wrong with r: FieldErrors, joined.
func (r Rules) Validate() error {
	return errors.Join(
		validateAccess(r.Access),
		validateAuth(r.Auth),
		validateCompress(r.Compress),
		validateRetries(&r),
		validateSendProxy(r.SendProxy),
		r.Redirect.validate(),
		r.Answer.validate(),
		r.Rewrite.validate(),
		validateLocations(r.RewriteLocation),
		r.validatePages(),
		validateAdded("AddRequestHeaders", r.AddRequestHeaders, inRequests),
		validateAdded("AddResponseHeaders", r.AddResponseHeaders, inResponses),
		validateVia(r.Via),
		field.If(r.RequestID != 0 && !words.Has(requestIDs, r.RequestID), "RequestID", "%v: want %s", r.RequestID, words.Choice(requestIDs)),
		r.validateBuffering(),
		validateSticky(r.Sticky),
		validateHashKey(r.HashKey),
		validateRequests(&r),
		validateMinRate(&r),
	)
}
