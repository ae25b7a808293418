package config

import (
	"crypto/tls"
	"reflect"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
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
	Alarms   []Alarm

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
	// SendProxy, of a service's check, is the header that connections to the service's
	// backends begin with.
	SendProxy lb.ProxyVersion

	path       string       // of the mapping in the file
	ofBackends bool         // written in a service: without a target of its own
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

// Listeners are who is told of the changes of state of a router, or of a group.
type Listeners struct {
	Notify        []Notify
	NotifyUser    string        // who the programs run as; empty: who havip does
	NotifyFIFO    string        // path of a FIFO that gets a line for each change; empty: none
	NotifyTimeout time.Duration // of each run of a program
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
	Listeners
}

// Equal reports whether both, nil for none, mean the same, wherever they were written.
func (c *Check) Equal(o *Check) bool { return reflect.DeepEqual(c.bare(), o.bare()) }

// Equal reports whether both mean the same, wherever they were written.
func (g Group) Equal(o Group) bool { return !differ(g.value(), o.value()) }

// bare is a copy of what counts; nil stays nil.
func (c *Check) bare() *Check {
	if c == nil {
		return nil
	}
	b := *c
	b.Pos, b.path, b.ofBackends, b.encryption = Position{}, "", false, nil
	return &b
}
