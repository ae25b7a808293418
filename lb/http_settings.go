package lb

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/havip/havip/internal/retry"
)

// handlerSettings are the settings of the requests that began while they were current.
type handlerSettings struct {
	HandlerConfig // with its defaults
	log           *slog.Logger
	dialer        dialer
	folds         foldRule
	ruled         bool // some of the Rules are for requests

	requestFields, responseFields setFields // RequestHeaders, ResponseHeaders

	idle   *idleConns
	shared *sharedConns // of HTTP/2
	gone   registry     // what the pool cuts: the Handler's sessions, idle and shared
}

// newHandlerSettings returns settings that watch no pool yet.
func newHandlerSettings(cfg HandlerConfig) *handlerSettings {
	cfg = cfg.WithDefaults()
	// The maps are the caller's, who may change them for the next Reconfigure.
	cfg.RequestHeaders, cfg.ResponseHeaders = maps.Clone(cfg.RequestHeaders), maps.Clone(cfg.ResponseHeaders)
	requests := compileFields(cfg.RequestHeaders, inRequests|inHost)
	return &handlerSettings{
		HandlerConfig:  cfg,
		log:            limitedLog(cfg.Logger),
		folds:          newFoldRule(cfg.Underscores, requests),
		ruled:          cfg.Rules.decide(),
		requestFields:  requests,
		responseFields: compileFields(cfg.ResponseHeaders, inResponses),
		dialer:         dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS, dial: cfg.Dial, http2: cfg.BackendProtocol == BackendHTTP2},
		idle:           new(idleConns),
		shared:         new(sharedConns),
	}
}

// mayShareConns reports whether the connections to backends that were made with prev,
// which may be nil, are what s would make. Two Dials cannot be compared.
func (s *handlerSettings) mayShareConns(prev *handlerSettings) bool {
	return prev != nil && s.Pool == prev.Pool && s.BackendTLS == prev.BackendTLS && s.Dial == nil && prev.Dial == nil
}

// dialUpstream connects to a picked backend.
func (s *handlerSettings) dialUpstream(ctx context.Context, pick Pick) (*upstream, error) {
	if s.BackendProtocol == BackendHTTP2 {
		return s.dialShared(ctx, pick)
	}
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
