package lb

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"github.com/havip/havip/lb/internal/proxyproto"
)

// tcpSettings are the settings of the connections that were accepted while they were
// current.
type tcpSettings struct {
	TCPConfig
	plane  *TCP
	log    *slog.Logger
	dialer dialer
	users  users
}

// newTCPSettings returns the settings of a valid configuration. What cfg refers to is
// the caller's, who may change it for the next Reconfigure.
func newTCPSettings(plane *TCP, cfg TCPConfig) *tcpSettings {
	cfg = cfg.WithDefaults()
	cfg.Routes, cfg.AcceptProxy = maps.Clone(cfg.Routes), slices.Clone(cfg.AcceptProxy)
	return &tcpSettings{
		TCPConfig: cfg,
		plane:     plane,
		log:       limitedLog(cfg.Logger),
		dialer:    dialer{timeout: cfg.ConnectTimeout, tls: cfg.BackendTLS},
	}
}

// enterSettings returns the current settings for a connection, which must leave them.
func (t *TCP) enterSettings() *tcpSettings {
	for {
		if cfg := t.settings.Load(); cfg.users.enter() {
			return cfg
		}
	}
}

// leave undoes what was counted of a connection when it was accepted.
func (cfg *tcpSettings) leave(peer netip.Addr) {
	cfg.users.leave()
	cfg.plane.counters.active.Add(-1)
	cfg.plane.limiter.release(&cfg.Limits, peer)
}

// account counts a connection that is over, and records it.
func (cfg *tcpSettings) account(r *Record, p *Pool) {
	c := &cfg.plane.counters
	c.received.Add(uint64(r.Received))
	c.sent.Add(uint64(r.Sent))
	c.retries.Add(uint64(r.Retries))
	if p != nil {
		r.Service = p.config().Name
	}
	if cfg.Record != nil {
		cfg.Record(*r)
	}
}

// greeting is the PROXY header that the backend gets, nil if none.
func (cfg *tcpSettings) greeting(o *origin) []byte {
	if cfg.SendProxy == ProxyNone {
		return nil
	}
	return proxyproto.Append(nil, int(cfg.SendProxy), o.client, o.local)
}
