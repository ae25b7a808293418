package lb

import (
	"log/slog"
	"slices"
)

// handlerSettings are the settings of the requests that began while they were current.
type handlerSettings struct {
	HandlerConfig // with its defaults
	log           *slog.Logger
	dialer        dialer
	folds         foldRule
	ruled         bool               // there are routes, or some of the Rules are for requests
	router        *router            // nil: there are no routes
	longestURI    int                // the largest MaxURI of the Handler and its routes; 0: one has no bound
	routed        []*handlerSettings // of the routes
	poolless      bool               // the Pool is none of the configuration
	compression   *compression       // nil: none
	redirect      *redirectRule
	answer        *answerRule
	rewrite       *rewriteRule
	locations     []locationRule
	inLoops       bool // event loops can serve requests with these settings, and those of the routes
	pages         pages
	auth          *auth // nil: nobody is asked
	bodies        *bodyStore

	requestFields, responseFields setFields // RequestHeaders, ResponseHeaders, and what others of the Rules set
	requestAdded, responseAdded   setFields // AddRequestHeaders, AddResponseHeaders, Via

	idle   *idleConns
	shared *sharedConns // of HTTP/2
	gone   registry     // what the pool cuts: the Handler's sessions, idle and shared
	budget *retryBudget // the Handler's

	requests *requestCounts // nil: the requests of clients are not counted

	sticky  *stickiness // nil: none
	hashKey template    // HashKey; nil: none
}

// newHandlerSettings returns settings that watch no pool yet.
func newHandlerSettings(cfg HandlerConfig) *handlerSettings {
	return compileSettings(cfg.clone())
}

// compileSettings is newHandlerSettings for a configuration that nobody changes.
func compileSettings(cfg HandlerConfig) *handlerSettings {
	given := cfg
	cfg = cfg.WithDefaults()
	requests, addedRequests, responses, addedResponses := compileOwn(&cfg)
	s := &handlerSettings{
		HandlerConfig:  cfg,
		log:            limitedLog(cfg.Logger),
		folds:          newFoldRule(cfg.Underscores, requests),
		redirect:       newRedirectRule(cfg.Redirect),
		answer:         newAnswerRule(cfg.Answer),
		rewrite:        newRewriteRule(cfg.Rewrite),
		locations:      newLocationRules(cfg.RewriteLocation),
		ruled:          cfg.Rules.decide() || len(cfg.Routes) > 0,
		compression:    newCompression(cfg.Compress),
		auth:           compileAuth(cfg.Auth),
		pages:          compilePages(&cfg),
		bodies:         newBodyStore(&cfg.Rules),
		requestFields:  requests,
		responseFields: responses,
		requestAdded:   addedRequests,
		responseAdded:  addedResponses,
		dialer:         dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS, dial: cfg.Dial, http2: cfg.BackendProtocol == BackendHTTP2},
		idle:           new(idleConns),
		shared:         new(sharedConns),
		budget:         new(retryBudget),
		requests:       newRequestCounts(&cfg.Rules),
		sticky:         newStickiness(cfg.Sticky),
	}
	s.hashKey, _ = compileTemplate(cfg.HashKey, inKeys) // Validate has done so before
	if cfg.Pool == nil {
		s.Pool, _ = NewPool(PoolConfig{}) // is valid
		s.poolless = true
	}
	s.inLoops = s.loopable()
	for _, r := range cfg.Routes {
		to := compileSettings(given.inherit(r))
		to.ruled, to.log = true, s.log // ruled: decide is asked
		if r.limitsAsHandler() {
			to.requests = s.requests
		}
		s.routed = append(s.routed, to)
		s.inLoops = s.inLoops && to.inLoops && !to.Pool.snap.Load().again
	}
	s.router = newRouter(cfg.Routes, s.routed)
	for _, of := range s.all() {
		if s.longestURI = max(s.longestURI, of.MaxURI); of.MaxURI <= 0 {
			s.longestURI = 0
			break
		}
	}
	return s
}

// loopable reports whether event loops can serve requests with these settings. Functions of an
// embedder may wait, and know requests as net/http has them. Another handshake would wait, too.
// Connections of HTTP/2 to backends are shared by requests of all loops.
func (s *handlerSettings) loopable() bool {
	return s.BackendProtocol == BackendHTTP1 && s.Key == nil && s.ModifyResponse == nil && s.ErrorHandler == nil && s.Dial == nil &&
		!renegotiates(s.dialer.tls)
}

// all returns s, and the settings of its routes.
func (s *handlerSettings) all() []*handlerSettings {
	if s == nil {
		return nil
	}
	return append([]*handlerSettings{s}, s.routed...)
}

// shareConns has s and its routes use the connections to backends of prev, which may be nil,
// where they can, and of one another. It returns the settings whose connections nobody uses
// any more.
func (s *handlerSettings) shareConns(prev *handlerSettings) (unused []*handlerSettings) {
	earlier := prev.all()
	used := make(map[*idleConns]bool)
	for _, next := range s.all() {
		if at := slices.IndexFunc(earlier, next.mayShareConns); at >= 0 {
			next.idle, next.shared = earlier[at].idle, earlier[at].shared
		}
		used[next.idle] = true
		earlier = append(earlier, next)
	}
	for _, p := range prev.all() {
		if !used[p.idle] {
			used[p.idle] = true
			unused = append(unused, p)
		}
	}
	return unused
}

// goOn has s and its routes go on with what prev, which may be nil, has counted.
func (s *handlerSettings) goOn(prev *handlerSettings) {
	s.keepLogins(prev)
	if prev != nil {
		s.budget = prev.budget
		s.keepCounts(prev)
	}
	for _, r := range s.routed {
		r.budget = s.budget
	}
}

// keepCounts has s and its routes go on with what prev has counted of clients' requests.
func (s *handlerSettings) keepCounts(prev *handlerSettings) {
	fresh := s.requests
	s.countOn(prev)
	earlier := make(map[string]*handlerSettings, len(prev.routed))
	for i, r := range prev.routed {
		if r.requests != prev.requests {
			earlier[prev.Routes[i].Name] = r
		}
	}
	for i, r := range s.routed {
		if r.requests == fresh {
			r.requests = s.requests
		} else {
			r.countOn(earlier[s.Routes[i].Name])
		}
	}
}

// countOn has s count the requests of clients where prev, which may be nil, has done so.
func (s *handlerSettings) countOn(prev *handlerSettings) {
	if s.requests != nil && prev != nil && prev.requests != nil {
		s.requests = prev.requests
	}
}

// watch has the pool of s cut the connections of s, and sessions.
func (s *handlerSettings) watch(sessions *registry) {
	s.gone.add(sessions)
	s.gone.add(s.idle)
	s.gone.add(s.shared)
	s.Pool.watchGone(&s.gone)
}

// cutIdle closes the idle connections to backends.
func (s *handlerSettings) cutIdle() {
	s.idle.cut(nil)
	s.shared.cut(nil)
}

// mayShareConns reports whether the connections to backends that were made with prev,
// which may be nil, are what s would make. Two Dials cannot be compared.
func (s *handlerSettings) mayShareConns(prev *handlerSettings) bool {
	return prev != nil && s.Pool == prev.Pool && s.BackendTLS == prev.BackendTLS && s.Dial == nil && prev.Dial == nil
}

// destinationOf returns which kept connections a request for a picked backend may use,
// but for what concerns the client: see [exchange.destination].
func (s *handlerSettings) destinationOf(pick Pick) destination {
	return destination{server: pick.member.server, address: pick.Address(), tls: s.dialer.tlsFor(pick)}
}
