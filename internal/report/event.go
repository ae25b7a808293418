package report

import "time"

// Event is one thing that happened: a line of the log, with what it is about.
type Event struct {
	ID      uint64    `json:"id"` // grows by one
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warn, error
	Kind    string    `json:"kind"`  // see Kinds
	Message string    `json:"message"`

	// Of these the ones that it is about are set.
	Router  string `json:"router,omitempty"`
	Group   string `json:"group,omitempty"`
	Check   string `json:"check,omitempty"`
	Service string `json:"service,omitempty"`
	Backend string `json:"backend,omitempty"`

	// Cause is why, in words: the log's cause, reason or err.
	Cause string `json:"cause,omitempty"`
	// Attributes are all others of the line, in its order.
	Attributes []Attribute `json:"attributes,omitempty"`
}

// Attribute is a key of the log with its value as text.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Kinds of events. New ones may come; a reader shows those that it does not know.
const (
	KindTransition  = "transition"  // a router changed its state: from, to, priority, peer
	KindFault       = "fault"       // a router has another fault, or cannot run
	KindAddresses   = "addresses"   // acquired, released, lost, not as they should be
	KindSplit       = "split"       // another router is Active as well, or is not any more
	KindConflict    = "conflict"    // another host claims a virtual address
	KindDiscard     = "discard"     // advertisements were discarded, or look odd
	KindCheck       = "check"       // a check is up or down
	KindBackend     = "backend"     // a backend is up, down, ejected, drained
	KindPool        = "pool"        // no working backends, quorum, panic; and the end of that
	KindService     = "service"     // serves, or cannot
	KindCertificate = "certificate" // is near its end, or could not be read
	KindReload      = "reload"      // the configuration changed, or could not
	KindControl     = "control"     // somebody has steered: who, what
	KindDaemon      = "daemon"      // begins, ends, a part has failed
	KindAlarm       = "alarm"       // an alarm could not be delivered
	KindOther       = "other"       // any other warning or error
)

// Kinds are all kinds of events that this version has.
var Kinds = []string{
	KindTransition, KindFault, KindAddresses, KindSplit, KindConflict, KindDiscard, KindCheck, KindBackend,
	KindPool, KindService, KindCertificate, KindReload, KindControl, KindDaemon, KindAlarm, KindOther,
}

// Attribute returns the value of a key; empty: it has none.
func (e Event) Attribute(key string) string {
	for _, a := range e.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}
