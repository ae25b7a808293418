package config

import (
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Service is one load-balanced address.
type Service struct {
	Pos      Position
	Name     string
	Listen   netip.AddrPort // an invalid Addr means all addresses of both families
	Mode     string         // http, tcp, udp
	Balance  string         // the value of an lb.Balance
	Backends []Backend      // none: what no route takes is refused
	// Check is run against each backend, at the backend's own address. It is
	// the one written in the service, or a copy of the named one. Nil: none.
	Check  *Check
	Routes []ServiceRoute // of tcp
	Pool   Pool

	ConnectTimeout   time.Duration // of each attempt; http and tcp
	HandshakeTimeout time.Duration // until the backend is chosen; tcp
	IdleTimeout      time.Duration
	ShutdownTimeout  time.Duration // http and tcp; 0: connections are cut at once
	Tries            int           // backends until one answers; http and tcp

	Limits     Limits      // http and tcp
	TLS        *ServerTLS  // http and tcp; nil: none
	BackendTLS *BackendTLS // http and tcp; nil: none
	Proxy      ProxyProtocol
	HTTP       HTTP
	UDP        UDP
	AccessLog  bool
}

// Backend is one server behind a service.
type Backend struct {
	Pos      Position
	Name     string // the address, unless one is given
	Address  string // "host:port"
	Weight   int
	Backup   bool // used only while all others are down
	MaxConns int  // 0: any number
	Drain    bool
}

// ServiceRoute sends connections that ask for one of its names to backends of
// their own, which are used as Service.Pool says.
type ServiceRoute struct {
	Pos         Position
	Name        string
	ServerNames []string // in lower case; *.example.org is for one label
	Backends    []Backend
	Check       *Check // the service's, unless one is given
}

// Pool says how backends are used: lb.PoolConfig explains it.
type Pool struct {
	MaxFails        int // 0: backends are never taken out
	FailTimeout     time.Duration
	SlowStart       time.Duration
	Quorum          int
	Hysteresis      int
	Panic           int // percent
	KillOnDown      bool
	DrainTimeout    time.Duration
	Queue           int
	QueueTimeout    time.Duration
	ResolveInterval time.Duration
}

// Limits bounds the connections of clients. 0 is no bound.
type Limits struct {
	Connections int
	PerClient   int
	Rate        float64 // new ones per second and client
	Burst       int     // 0: Rate
	TotalRate   float64 // new ones per second
	TotalBurst  int     // 0: TotalRate
}

// ServerTLS says how connections of clients are encrypted.
type ServerTLS struct {
	Certificates []Certificate
	ClientCA     string // path; empty: clients need no certificate
	ClientAuth   string // required, optional; empty without ClientCA
	MinVersion   string // 1.2, 1.3
	ALPN         []string
	// Digest is one of what is in the files, so that a renewed certificate makes
	// another configuration.
	Digest string
}

// Certificate is a certificate with its chain and its key, as paths of PEM
// files, which may be the same.
type Certificate struct{ Certificate, Key string }

// BackendTLS says how connections to backends are encrypted.
type BackendTLS struct {
	ServerName  string // empty: the host of the backend's address
	CA          string // path; empty: the system's
	Certificate string // path of our own; empty: none
	Key         string // path
	Insecure    bool   // verify nothing
	Digest      string // as in ServerTLS
}

// ProxyProtocol says who tells the client's address, and whether it is passed
// on.
type ProxyProtocol struct {
	Accept []netip.Prefix // those who must begin with a header
	Send   string         // none, v1, v2
}

// HTTP is what only mode http has.
type HTTP struct {
	HeaderTimeout   time.Duration // of a request, TLS handshake included
	ResponseTimeout time.Duration // the longest silence of a backend
	TunnelTimeout   time.Duration // the same when the connection was upgraded
	MaxBody         int64         // bytes; 0: any number
	TrustedProxies  []netip.Prefix
	RequestHeaders  []Header // an empty value removes the header
	ResponseHeaders []Header
}

// UDP is what only mode udp has.
type UDP struct {
	Responses   int // datagrams that end a session; 0: no number does
	MaxSessions int
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

// Equal reports whether both mean the same, wherever they were written.
func (b Backend) Equal(o Backend) bool { return b.bare() == o.bare() }

func (b Backend) bare() Backend {
	b.Pos = Position{}
	return b
}

func (s Service) bare() Service {
	s.Pos = Position{}
	s.Backends, s.Check = bareBackends(s.Backends), s.Check.pointer()
	s.Routes = slices.Clone(s.Routes)
	for i := range s.Routes {
		r := &s.Routes[i]
		r.Pos = Position{}
		r.Backends, r.Check = bareBackends(r.Backends), r.Check.pointer()
	}
	return s
}

func bareBackends(backends []Backend) []Backend {
	bare := slices.Clone(backends)
	for i := range bare {
		bare[i].Pos = Position{}
	}
	return bare
}

// pointer is bare for what may be nil.
func (c *Check) pointer() *Check {
	if c == nil {
		return nil
	}
	b := c.bare()
	return &b
}
