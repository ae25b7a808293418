package report

import (
	"encoding/json"
	"errors"
	"time"
)

// Errors of what is asked for, to be found with errors.Is.
var (
	// ErrUnknown: no part has the name.
	ErrUnknown = errors.New("unknown")
	// ErrState: the part is there, but cannot do that in its present state.
	ErrState = errors.New("not possible now")
	// ErrInvalid: the request itself is wrong, whatever the state.
	ErrInvalid = errors.New("not valid")
)

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON writes the seconds, with fractions.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var f float64
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}

// String prints the duration as Go does.
func (s Seconds) String() string { return time.Duration(s).String() }

// Status is the whole of a node at one moment.
type Status struct {
	Node     Node       `json:"node"`
	Routers  []Router   `json:"routers"`  // in the order of the file, and so on
	Groups   []Group    `json:"groups"`   // of routers that move together
	Checks   []Check    `json:"checks"`   // those that routers may track
	Services []Service  `json:"services"` // what is balanced
	Alarms   []Receiver `json:"alarms"`   // who is told of what happens
	// Problems are what needs a person, in sentences; none: all is well. See FindProblems.
	Problems []string `json:"problems,omitempty"`
}

// Node is the process and its host.
type Node struct {
	Host    string    `json:"host"`    // its name
	Version string    `json:"version"` // of havip
	PID     int       `json:"pid"`
	Time    time.Time `json:"time"`    // when this was said
	Started time.Time `json:"started"` // the process
	// File is the configuration file, empty with flags alone, and Loaded is when the
	// configuration in force came into force.
	File   string    `json:"file,omitempty"`
	Loaded time.Time `json:"loaded,omitzero"`
	// ReloadError is why the latest reload did not change everything; empty: it did. Its
	// time is ReloadFailed.
	ReloadError  string    `json:"reload_error,omitempty"`
	ReloadFailed time.Time `json:"reload_failed,omitzero"`
	LogLevel     string    `json:"log_level"`
	// Maintenance, if it is on, keeps every router out of the election.
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	// Changes are those made at run time, which the file does not have.
	Changes []RuntimeChange `json:"changes,omitempty"`
	// Warnings are those of the configuration.
	Warnings []string `json:"warnings,omitempty"`
}

// Maintenance says since when and why a node stays away.
type Maintenance struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	// Lasting: a restart does not end it. False if it could not be noted down.
	Lasting bool `json:"lasting"`
}

// RuntimeChange is a value that a command has put in the place of the file's.
type RuntimeChange struct {
	Kind  string    `json:"kind"` // priority, maintenance, drain, weight, check, log
	Name  string    `json:"name"` // of the router, service, service/backend or check
	Value string    `json:"value"`
	File  string    `json:"file,omitempty"` // the file's value
	Since time.Time `json:"since"`
}

// Router is one virtual router.
type Router struct {
	Name      string `json:"name"`
	Group     string `json:"group,omitempty"`
	Interface string `json:"interface"`
	VRID      uint8  `json:"vrid"`
	Version   uint8  `json:"version"`
	IPv6      bool   `json:"ipv6,omitempty"`

	// State is Initialize, Backup or Active, since Since, for Cause: the words of the log.
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Cause  string    `json:"cause,omitempty"`
	Reason string    `json:"reason,omitempty"` // the faults of that moment, the reloaded keys
	// CausePeer is the other router that Cause is about.
	CausePeer string `json:"cause_peer,omitempty"`
	// HandingOver: the router is still Active, and waits for its successor.
	HandingOver bool `json:"handing_over,omitempty"`
	// Faults keep the router out of the election now. Waiting: they are only awaited.
	Faults  []string `json:"faults,omitempty"`
	Waiting bool     `json:"waiting,omitempty"`
	// NotRunning is why the router cannot take part at all and is tried again.
	NotRunning string `json:"not_running,omitempty"`

	// Priority is in force; Configured is the file's.
	Priority   uint8   `json:"priority"`
	Configured uint8   `json:"configured_priority"`
	Preempt    bool    `json:"preempt"`
	Interval   Seconds `json:"interval"`            // of the Active router
	Own        Seconds `json:"configured_interval"` // the file's
	Source     string  `json:"source,omitempty"`    // of advertisements
	Auth       string  `json:"auth"`                // none, pass, ah, hmac
	// Unicast are the configured peers; none: multicast.
	Unicast []string `json:"unicast,omitempty"`

	Addresses []Address `json:"addresses"`
	// Held: the addresses are on the interface. Problem is why they are not as they
	// should be.
	Held    bool   `json:"held"`
	Problem string `json:"problem,omitempty"`
	// Reinstated, Removed, Lost and Conflicts count, see vip.Status.
	Reinstated uint64 `json:"reinstated"`
	Removed    uint64 `json:"removed"`
	Lost       uint64 `json:"lost"`
	Conflicts  uint64 `json:"conflicts"`
	// Claim is the latest conflict: another host has said that an address is its own.
	Claim *Claim `json:"claim,omitempty"`

	// Peers were heard with this VRID, the latest first.
	Peers []Peer `json:"peers"`
	// Rival is Active although this router is, too. Deaf is why it may not hear this one.
	Rival *Peer  `json:"rival,omitempty"`
	Deaf  string `json:"deaf,omitempty"`
	// Drops are the discarded advertisements, by reason, those of late first.
	Drops []Drop `json:"drops,omitempty"`
	// Foreign is the latest advertisement with another VRID that is likely to be meant
	// for this router.
	Foreign *Foreign `json:"foreign,omitempty"`

	Sent        uint64 `json:"sent"`
	Received    uint64 `json:"received"`
	SendErrors  uint64 `json:"send_errors"`
	Mismatched  uint64 `json:"mismatched"`
	Splits      uint64 `json:"splits"`
	Transitions uint64 `json:"transitions"`
	// Causes are the transitions by the words of their causes, of late and 0 too.
	Causes map[string]uint64 `json:"transition_causes,omitempty"`
	Tracks []Track           `json:"tracks,omitempty"`
}

// Address is one virtual address.
type Address struct {
	Address  string `json:"address"` // with its prefix length
	Excluded bool   `json:"excluded,omitempty"`
}

// Peer is another router of the VRID.
type Peer struct {
	Address   string    `json:"address"`
	Version   uint8     `json:"version"`
	Priority  uint8     `json:"priority"` // 0: it left
	Interval  Seconds   `json:"interval"`
	LastHeard time.Time `json:"last_heard"`
}

// Claim is what another host has said of an address that is held here.
type Claim struct {
	Address   string    `json:"address"`
	MAC       string    `json:"mac,omitempty"`
	Interface string    `json:"interface"`
	Last      time.Time `json:"last"`
}

// Drop is a reason for which advertisements were discarded.
type Drop struct {
	Reason string    `json:"reason"` // the word of vrrp.DropReason
	Count  uint64    `json:"count"`
	From   string    `json:"from,omitempty"` // the last sender
	Text   string    `json:"text,omitempty"` // about the last one
	Last   time.Time `json:"last,omitzero"`
}

// Foreign is an advertisement with another VRID.
type Foreign struct {
	From string    `json:"from"`
	VRID uint8     `json:"vrid"`
	Last time.Time `json:"last"`
}

// Track is a check that a router follows.
type Track struct {
	Check  string `json:"check"`
	Weight int    `json:"weight,omitempty"` // 0: a failure releases the addresses
}

// Group is a set of routers that move together.
type Group struct {
	Name    string   `json:"name"`
	State   string   `json:"state,omitempty"` // in Keepalived's words
	Routers []string `json:"routers"`
}

// Check is a monitor and what it has found.
type Check struct {
	Name   string `json:"name"`
	Target string `json:"target,omitempty"` // as the log has it
	// State is up, down or unknown.
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	Paused   bool      `json:"paused,omitempty"`
	Checked  time.Time `json:"checked,omitzero"`
	Latency  Seconds   `json:"latency"`
	Error    string    `json:"error,omitempty"` // of the latest probe
	Interval Seconds   `json:"interval"`
	Probes   uint64    `json:"probes"`
	Failed   uint64    `json:"failed"`
	Changes  uint64    `json:"changes"`
}

// Service is one balanced address.
type Service struct {
	Name   string `json:"name"`
	Listen string `json:"listen"`
	Mode   string `json:"mode"`
	// Serving: it has its socket. Problem is why it does not.
	Serving bool   `json:"serving"`
	Problem string `json:"problem,omitempty"`
	// Maintenance: all requests get 503, but those of routes with another word on it.
	Maintenance bool `json:"maintenance,omitempty"`
	// LogProblem is why the access log loses lines now, or has them in a file that was moved
	// away, and Unlogged is how many it has lost.
	LogProblem string  `json:"log_problem,omitempty"`
	Unlogged   uint64  `json:"unlogged,omitempty"`
	Traffic    Traffic `json:"traffic"`
	Pools      []Pool  `json:"pools"`
	Balance    string  `json:"balance"`
	TLSUntil   []Until `json:"certificates,omitempty"`
}

// Until is when a certificate ends.
type Until struct {
	Names []string  `json:"names"`
	File  string    `json:"file"`
	End   time.Time `json:"end"`
}

// Traffic counts since the service began, whatever reloads there were.
type Traffic struct {
	Active   int64  `json:"active"`
	Accepted uint64 `json:"accepted"`
	Refused  uint64 `json:"refused"`
	Failed   uint64 `json:"failed"`
	Retries  uint64 `json:"retries"`
	Received uint64 `json:"received"` // bytes from clients
	Sent     uint64 `json:"sent"`     // bytes to clients
	// Statuses are HTTP responses by class, "1xx" to "5xx".
	Statuses map[string]uint64 `json:"statuses,omitempty"`
	// Ended requests, connections or sessions took Took together, and Latency each.
	Ended   uint64    `json:"ended"`
	Took    Seconds   `json:"took"`
	Latency Quantiles `json:"latency,omitzero"`
	// Durations are what Latency was estimated from.
	Durations Histogram `json:"-"`
	// Routes are the requests by route, and of each by the class of the status, "1xx" to "5xx" or
	// "none". At the empty name are those without a route. nil: there are no routes of HTTP.
	Routes map[string]map[string]uint64 `json:"-"`
}

// Quantiles are those of a histogram; estimates, within a bucket.
type Quantiles struct {
	P50 Seconds `json:"p50"`
	P99 Seconds `json:"p99"`
}

// Pool is the backends of a service, or of one of its routes.
type Pool struct {
	Route      string    `json:"route,omitempty"` // empty: the service's own
	Check      string    `json:"check,omitempty"` // the name of what probes the backends, if it has one
	Quorum     bool      `json:"quorum"`
	Panic      bool      `json:"panic,omitempty"`
	Queued     int       `json:"queued"`
	Waits      uint64    `json:"waits"`
	Overflow   uint64    `json:"overflow"`
	Backends   []Backend `json:"backends"`
	Unresolved []string  `json:"unresolved,omitempty"`
}

// Backend is one member of a pool.
type Backend struct {
	Name    string `json:"name"`
	Address string `json:"address"` // where connections go
	// State is one word for a person: up, down, ejected, draining, backup (up, and not
	// needed), unresolved.
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	InUse bool      `json:"in_use"` // gets new connections
	Error string    `json:"error,omitempty"`

	Weight           int     `json:"weight"`
	ConfiguredWeight int     `json:"configured_weight"`
	Backup           bool    `json:"backup,omitempty"`
	Draining         bool    `json:"draining,omitempty"`
	Ejected          bool    `json:"ejected,omitempty"`
	Checked          bool    `json:"checked"` // a check probes it
	CheckLatency     Seconds `json:"check_latency,omitempty"`
	CheckPaused      bool    `json:"check_paused,omitempty"`
	// Probed is when the latest probe ended.
	Probed time.Time `json:"probed,omitzero"`

	Active      int64   `json:"active"`
	Picks       uint64  `json:"picks"`
	Failures    uint64  `json:"failures"`
	Ejects      uint64  `json:"ejects"`
	Received    uint64  `json:"received"`
	Sent        uint64  `json:"sent"`
	Connects    uint64  `json:"connects"`
	ConnectTime Seconds `json:"connect_time"` // which all of them took together
	// Ended requests, connections or sessions took Took together.
	Ended uint64  `json:"ended"`
	Took  Seconds `json:"took"`
}
