package lb

import (
	"net/http"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// verdict says what becomes of a request by the Rules.
type verdict uint8

const (
	passOn     verdict = iota // a backend gets the request
	answerHere                // the client gets x.reply
	refuseHere                // the same, because a rule keeps the request from the backends
	closeHere                 // the connection ends, or the stream, without an answer
	awaitHere                 // x.claim is verified, which takes its time, and decideLogin called
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
	x.show(nil, status)
	return refuseHere
}

// decide says what becomes of a request by its route and the Rules. It is called once, after
// refusal. A service without rules pays no more for them than to see that there are none.
func (x *exchange) decide() verdict {
	if x.cfg.ruled {
		if v := x.rule(); v != passOn {
			return v
		}
	}
	return x.decideRest()
}

// decideRest goes by the rules for clients that may have an answer.
func (x *exchange) decideRest() verdict {
	cfg := x.cfg
	switch {
	case cfg.answer != nil && cfg.answer.status == statusClosed:
		x.record.Status, x.record.Reason = statusClosed, "closed without an answer"
		return closeHere
	case cfg.answer != nil:
		return x.answerWith(cfg.answer.status, cfg.answer.kind, []byte(cfg.answer.content.value(x)))
	case cfg.poolless:
		return x.refuse(http.StatusNotFound, "no route")
	case x.forwards == lastForward:
		return x.answerLast()
	case cfg.rewrite != nil && !x.rewrite(cfg.rewrite):
		return x.refuse(http.StatusBadRequest, "rewritten path has steps, or leads above the root")
	}
	if x.cfg.MaxBody > 0 && x.req.Length > x.cfg.MaxBody {
		return x.refuse(http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge))
	}
	return passOn
}

// rule chooses the route, whose settings count from then on, and goes by the Rules.
func (x *exchange) rule() verdict {
	if x.cfg.router != nil && x.longerThan(x.cfg.longestURI) {
		return x.refuseLong(x.cfg.longestURI) // before regular expressions see it
	}
	if x.cfg.router != nil || x.cfg.rewrite != nil {
		if !x.readPath() {
			return x.refuse(http.StatusBadRequest, "path leads above the root, or has a NUL")
		}
	}
	if x.cfg.router != nil {
		if x.route = x.cfg.router.find(x, x.hostName(), x.path); x.route != nil {
			x.cfg = x.route.settings
		}
	}
	cfg := x.cfg
	switch {
	case x.cfg.Maintenance:
		return x.refuseForMaintenance()
	case !allows(x.cfg.Access, x.client.Addr()):
		return x.refuse(http.StatusForbidden, "access denied by address")
	}
	if v := x.limited(); v != passOn {
		return v
	}
	switch {
	case cfg.redirect.applies(x):
		return x.redirect(cfg.redirect) // which may lead to TLS, before a password is asked for
	case cfg.auth != nil:
		return x.checkLogin(cfg.auth)
	}
	return passOn
}

// readPath reads the path as Route has it; false: it is none. Rules for all paths are those of *,
// which is of all that a server has, too.
func (x *exchange) readPath() bool {
	if x.target == "*" {
		x.path = "/"
		return true
	}
	if path, _, _ := strings.Cut(x.target, "?"); isNormal(path) {
		x.path = path
		return true
	}
	start := len(x.text)
	var ok bool
	x.text, ok = appendNormalPath(x.text, x.target)
	x.path = x.written(start)
	return ok
}

// hostName returns the host that the client asks, without a port and in lower case.
func (x *exchange) hostName() string {
	host, _ := hostOnly(x.authority)
	host = strings.TrimSuffix(host, ".")
	if !hasUpper(host) {
		return host
	}
	start := len(x.text)
	for i := range len(host) {
		x.text = append(x.text, lower(host[i]))
	}
	return x.written(start)
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if lower(s[i]) != s[i] {
			return true
		}
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
