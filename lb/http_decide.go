package lb

import (
	"net/http"

	"github.com/havip/havip/lb/internal/h1"
)

// verdict says what becomes of a request by the Rules.
type verdict uint8

const (
	passOn     verdict = iota // a backend gets the request
	answerHere                // the client gets x.reply
	refuseHere                // the same, because a rule keeps the request from the backends
)

// reply is an answer in a backend's place.
type reply struct {
	status  int
	kind    string // Content-Type; empty: none
	content []byte
	fields  []h1.Field // beside Content-Type and what frames the answer
	reason  string     // why the request is refused
}

// bodied reports whether the status of the answer lets it have a body (RFC 9110 §6.4.1).
func (r *reply) bodied() bool {
	return r.status != http.StatusNoContent && r.status != http.StatusNotModified
}

// refuse makes a reply of an error.
func (x *exchange) refuse(status int, reason string) verdict {
	x.reply = reply{status: status, reason: reason, fields: x.reply.fields[:0]}
	x.reply.kind, x.reply.content = errorPage(status)
	return refuseHere
}

// decide says what becomes of a request by the Rules. It is called once, after refusal. A
// service without rules pays no more for them than to see that there are none.
func (x *exchange) decide() verdict {
	if !x.cfg.ruled {
		return passOn
	}
	switch {
	case x.cfg.Maintenance:
		return x.refuse(http.StatusServiceUnavailable, "maintenance")
	case !allows(x.cfg.Access, x.client.Addr()):
		return x.refuse(http.StatusForbidden, "access denied by address")
	}
	return passOn
}
