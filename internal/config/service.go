package config

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/havip/havip/lb"
)

// Service is one load-balanced address.
type Service struct {
	Pos    Position
	Name   string
	Listen netip.AddrPort // an invalid Addr means all addresses of both families
	Mode   string         // http, tcp, udp
	// Pool says how backends are used, and which they are. None: what no route
	// takes is refused. Its name is the service's.
	Pool lb.PoolConfig
	// Check is run against each backend, at the backend's own address. It is
	// the one written in the service, or a copy of the named one. Nil: none.
	Check  *Check
	Routes []ServiceRoute // of http and tcp

	Limits      lb.Limits      // http and tcp
	AcceptProxy []netip.Prefix // who must begin with a PROXY header; http and tcp
	TLS         *ServerTLS     // http and tcp; nil: none
	BackendTLS  *TLS           // http and tcp; nil: none

	// The configurations of the modes, of which Mode uses one. What all modes have
	// stands above, and package daemon fills it in.
	TCP  lb.TCPConfig
	UDP  lb.UDPConfig
	HTTP lb.HTTPConfig

	// RuleFiles identifies what the files hold that rules of requests name, by the key of each,
	// as in a Difference: routes[api].http.basic_auth.file.
	RuleFiles map[string]string

	AccessLog AccessLog
}

// AccessLog says where there is a line for each connection, request or session that has ended.
type AccessLog struct {
	Log    bool   // in havip's own log
	File   string // path; empty: in no file
	Format lb.AccessFormat
	Sample int // see lb.AccessLogConfig
}

// ServiceRoute sends connections that ask for one of its names, or requests, to backends of
// their own.
type ServiceRoute struct {
	Name        string
	ServerNames []string     // in lower case; *.example.org is for one label; mode tcp
	Backends    []lb.Backend // none: the service's
	Check       *Check       // the service's, unless one is given; nil without backends
	// Pool says how Backends are used: see Service.PoolOf. OwnPool are names of its fields that
	// are zero, and not the service's.
	Pool    lb.PoolConfig
	OwnPool []string

	// Of mode http: see lb.Route.
	Hosts, Paths, Methods []string
	Headers               map[string]string
	Sources               []netip.Prefix
	HTTP                  lb.HTTPConfig // what is zero is the service's; of a route only the HandlerConfig is used
	Own                   []string      // names of fields of HTTP that are zero, and not the service's
	// BackendTLS is nil for the service's, unless Own has backendTLS: there is none then.
	BackendTLS *TLS
}

// backendTLS is the field of HTTP that the daemon makes of BackendTLS.
const backendTLS = "BackendTLS"

// HTTPRoutes are the routes of mode http. pool returns the pool of a route with backends.
func (s Service) HTTPRoutes(pool func(route string) *lb.Pool) (routes []lb.Route) {
	for _, r := range s.Routes {
		to := lb.Route{Name: r.Name, Hosts: r.Hosts, Paths: r.Paths, Methods: r.Methods, Headers: r.Headers, Sources: r.Sources,
			HandlerConfig: r.HTTP.HandlerConfig, Own: r.Own}
		if len(r.Backends) > 0 {
			to.Pool = pool(r.Name)
		}
		routes = append(routes, to)
	}
	return routes
}

// ServerTLS says how connections of clients are encrypted.
type ServerTLS struct {
	Certificates []lb.CertificateFile
	ClientCA     string // path; empty: clients need no certificate
	ClientAuth   string // required, optional; empty without ClientCA
	MinVersion   string // 1.2, 1.3
	ALPN         []string
	TicketKeys   []string // paths of session-ticket keys, of which the first encrypts
	TicketSecret Secret   // of which they are made instead, at least lb.MinTicketSecret bytes
	Digest       string   // as in TLS
}

// Network is what the service listens on: tcp or udp.
func (s Service) Network() string {
	if s.Mode == "udp" {
		return "udp"
	}
	return "tcp"
}

// Equal reports whether both mean the same, wherever they were written.
func (s Service) Equal(o Service) bool { return reflect.DeepEqual(s.bare(), o.bare()) }

func (s Service) bare() Service {
	s.Pos = Position{}
	s.Check = s.Check.bare()
	s.Routes = slices.Clone(s.Routes)
	for i := range s.Routes {
		s.Routes[i].Check = s.Routes[i].Check.bare()
	}
	return s
}

// PoolOf is the pool of a route with backends, under a name of its own. What the route does not
// say of it is the service's.
func (s Service) PoolOf(r ServiceRoute) lb.PoolConfig {
	own, above := reflect.ValueOf(&r.Pool).Elem(), reflect.ValueOf(s.Pool)
	for i := range own.NumField() {
		if own.Field(i).IsZero() && !slices.Contains(r.OwnPool, own.Type().Field(i).Name) {
			own.Field(i).Set(above.Field(i))
		}
	}
	r.Pool.Name, r.Pool.Backends = s.Name+"/"+r.Name, r.Backends
	return r.Pool
}

// BackendTLSOf is how connections to the backends of a route are encrypted; nil: they are not.
func (s Service) BackendTLSOf(r ServiceRoute) *TLS {
	if r.BackendTLS == nil && !slices.Contains(r.Own, backendTLS) {
		return s.BackendTLS
	}
	return r.BackendTLS
}
