package node

import (
	"context"
	"slices"
	"strings"

	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/report"
	"github.com/havip/havip/lb"
)

// TestAlarm has a receiver of alarms tell of a trial, and returns why that failed.
func (n *Node) TestAlarm(ctx context.Context, name string) error {
	return n.alarms.Test(ctx, name)
}

// followAlarms has the receivers of a configuration told. What was told of parts that it
// does not have any more ends.
func (n *Node) followAlarms(cfg *config.Config) {
	var receivers []alarm.Config
	for _, a := range cfg.Alarms {
		receivers = append(receivers, a.AlarmConfig())
	}
	n.alarms.Reconfigure(receivers)
	n.alarms.Retain(func(e report.Event) bool { return configured(cfg, e) })
}

// configured reports whether a configuration has the parts that an event is about.
func configured(cfg *config.Config, e report.Event) bool {
	if e.Router != "" && !slices.ContainsFunc(cfg.VRRP, func(r config.Router) bool { return r.Name == e.Router }) {
		return false
	}
	if e.Check != "" && e.Service == "" && !slices.ContainsFunc(cfg.Checks, func(c config.Check) bool { return c.Name == e.Check }) {
		return false
	}
	if e.Service == "" {
		return true
	}
	service, route, _ := strings.Cut(e.Service, "/")
	i := slices.IndexFunc(cfg.Services, func(s config.Service) bool { return s.Name == service })
	return i >= 0 && ofService(&cfg.Services[i], route, e)
}

// ofService reports whether a service has the route, the certificate and the backend that
// an event is about.
func ofService(s *config.Service, route string, e report.Event) bool {
	backends := s.Pool.Backends
	if route != "" {
		i := slices.IndexFunc(s.Routes, func(r config.ServiceRoute) bool { return r.Name == route })
		if i < 0 {
			return false
		}
		backends = s.Routes[i].Backends
	}
	if file := e.Attribute("file"); e.Kind == report.KindCertificate && file != "" {
		return s.TLS != nil && slices.ContainsFunc(s.TLS.Certificates, func(c lb.CertificateFile) bool { return c.Cert == file })
	}
	// Of a name with several addresses each is a backend: app1/192.0.2.7:80.
	return e.Backend == "" || slices.ContainsFunc(backends, func(b lb.Backend) bool {
		return e.Backend == b.Name || strings.HasPrefix(e.Backend, b.Name+"/")
	})
}
