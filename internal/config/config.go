package config

import (
	"crypto/tls"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/havip/havip/healthcheck"
)

// Config is a whole configuration file. Defaults are filled in.
type Config struct {
	Log   Log
	Admin Admin
	// Checks are those that routers can track, in the order of the file. A
	// check of backends is in the services that use it, and not here.
	Checks   []Check
	VRRP     []Router
	Groups   []Group
	Services []Service

	// Warnings are settings that are allowed and yet unlikely to do what was
	// meant, in the order of the file.
	Warnings []Problem

	// Where things stand, for what OnHost finds.
	file string
	at   map[string]Position
}

// Log says what is logged and how.
type Log struct {
	Level  string // debug, info, warn, error: as slog.Level.UnmarshalText takes it
	Format string // text, json
}

// Admin says where the daemon can be asked and controlled.
type Admin struct {
	Socket string         // path of the control socket
	Listen netip.AddrPort // of the read-only HTTP server; the zero value: none
}

// Check is one health check: the configuration of a monitor, with the checker.
type Check struct {
	Pos  Position
	Type string // a name in checkTypes
	// Config has the name, empty for a check written inside a service, and the
	// checker, a pointer to one of package healthcheck. That of a check of backends
	// has no target: see New.
	healthcheck.Config
	Path string // of http: what backends are asked for
	TLS  *TLS   // nil: none, or what the type has by default

	encryption **tls.Config // in the checker: where New puts what TLS says
}

// TLS says how havip encrypts towards a server, and what it verifies.
type TLS struct {
	ServerName  string   // empty: the host that is asked
	CA          string   // path; empty: the system's
	Certificate string   // path of our own; empty: none
	Key         string   // path
	ALPN        []string // application protocols, such as h2
	Insecure    bool     // verify nothing
	// Digest, of a service, is one of what is in the files, so that a renewed
	// certificate makes another configuration.
	Digest string
}

// Router is one virtual router.
type Router struct {
	Pos          Position
	Name         string
	Interface    string
	VRID         uint8
	Priority     uint8
	Version      uint8
	Interval     time.Duration
	Preempt      bool
	PreemptDelay time.Duration
	StartDelay   time.Duration
	// StartDelayUptime is until when after the host's boot StartDelay counts; 0:
	// always.
	StartDelayUptime time.Duration
	// DownMultiplier is how many intervals of silence make a node count as dead.
	DownMultiplier int
	// Addresses are the virtual addresses, all of one family, with the prefix
	// length that they get on the interface. May be empty.
	Addresses []Address
	Family    string // ipv4, ipv6 or empty; see IPv6
	// Excluded are further addresses, of any family, that move along and are not
	// listed in advertisements.
	Excluded       []Address
	Routes         []Route
	Accept         bool         // Accept_Mode (RFC 9568 §6.1): take in what is sent to the addresses
	Takeover       bool         // what a killed Keepalived left is removed
	VirtualMAC     bool         // the addresses are on a macvlan with the VRID's hardware address
	XmitBase       bool         // with VirtualMAC: advertisements do not come from there
	Macvlan        string       // its name; empty: Keepalived's
	Source         netip.Addr   // the zero value: the interface's own
	Peers          []netip.Addr // empty: multicast
	TTL            uint8        // of unicast advertisements
	MinTTL, MaxTTL uint8        // of unicast advertisements that are accepted
	Checksum       string       // pseudo-header, message-only, old-unicast
	Auth           Auth
	// Lease is the lifetime of the addresses in the kernel, in whole seconds;
	// 0: as suits the interval; negative: none.
	Lease    time.Duration
	Announce Announce
	Probe    time.Duration // 0: addresses are taken without asking for them first
	Track    []Track
	// Notify are programs to run on a change of state.
	Notify        []Notify
	NotifyUser    string // who they run as; empty: who havip does
	NotifyFIFO    string // path of a FIFO that gets a line for each change; empty: none
	NotifyTimeout time.Duration
}

// IPv6 reports whether the router's advertisements travel over IPv6. The
// first of Addresses, Peers and Source that is there says it, or else Family.
func (r *Router) IPv6() bool { return routerFamily(r).Is6() }

// Auth says how a router's advertisements are authenticated.
type Auth struct {
	Type      string // empty (none), pass, ah, hmac
	Secret    Secret // of pass and ah
	Keys      []Key  // of hmac
	ActiveKey uint8  // the ID of the key that signs
	Mode      string // enforce, permissive, receive-only
	Replay    string // time, monotonic
	Window    time.Duration
}

// Announce says how often the link is told where the addresses are.
type Announce struct {
	Rounds  []time.Duration
	Burst   int
	Refresh time.Duration // 0: never again
}

// Address is a virtual address with the length of its network.
type Address struct {
	netip.Prefix
	Interface string // empty: the router's, or its macvlan
	Label     string // of an IPv4 address; empty: none
	Scope     string // of an IPv4 address: global, site, link, host
}

// Route is a route that exists while the addresses are held.
type Route struct {
	To        netip.Prefix
	Via       netip.Addr // the zero value: on the link
	Interface string     // empty: the router's
	Source    netip.Addr // the zero value: the kernel chooses
	Table     uint32
	Metric    uint32 // 0: the kernel's default
}

// Key is one key of hmac.
type Key struct {
	ID     uint8
	Secret Secret // 32 to 64 bytes
}

// Track ties a router to a check. With Weight 0 a failure releases the
// addresses at once. A negative weight is added to the priority while the check
// fails, a positive one while it succeeds.
type Track struct {
	Check  string
	Weight int
	// Mode says what a weight does without preemption: priority, nothing but
	// change it, or resign, hand over when it falls below a peer's.
	Mode string
}

// Notify is a program to run on a change of state.
type Notify struct {
	Command []string // an absolute path and arguments
	// On are the states, in lower case, that it is run for, as Keepalived runs
	// notify_master and the like: with no further arguments. None: all states,
	// which arguments tell.
	On []string
}

// Group is a set of routers that move together.
type Group struct {
	Pos     Position
	Name    string
	Routers []string
	// As in Router.
	Notify        []Notify
	NotifyUser    string
	NotifyFIFO    string
	NotifyTimeout time.Duration
}

// Equal reports whether both mean the same, wherever they were written.
func (c Check) Equal(o Check) bool { return reflect.DeepEqual(c.bare(), o.bare()) }

// Equal reports whether both mean the same, wherever they were written.
func (r Router) Equal(o Router) bool {
	r.Pos, o.Pos = Position{}, Position{}
	return reflect.DeepEqual(r, o)
}

// Equal reports whether both mean the same, wherever they were written.
func (g Group) Equal(o Group) bool {
	g.Pos, o.Pos = Position{}, Position{}
	return reflect.DeepEqual(g, o)
}

// Differences returns the keys in which two routers differ, in the order of the
// fields of Router.
func (r Router) Differences(o Router) (keys []string) {
	a, b := reflect.ValueOf(r), reflect.ValueOf(o)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if name != "Pos" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			keys = append(keys, strings.ToLower(wordEnd.ReplaceAllString(name, "${1}_${2}")))
		}
	}
	return keys
}

// wordEnd is where a field's name has an underscore as a key.
var wordEnd = regexp.MustCompile("([a-z])([A-Z])")

func (c Check) bare() Check {
	c.Pos, c.encryption = Position{}, nil
	return c
}
