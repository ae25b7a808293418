package lb

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// BasicAuth asks clients for a user and a password (RFC 7617). Users of more than 255 bytes and
// passwords of more than 256 are never right. A login that was right once costs no hash again,
// also after [Handler.Reconfigure] with the same Users, or others made of the same text. Clients
// take turns with what is verified, on half of the processors: a client that sends more than
// waits for a turn, 32 logins, gets 429, and all get 503 while 256 logins for the same Users, or 512 in
// the process, are waiting, or if the turn does not come within the ClientTimeout.
type BasicAuth struct {
	// Realm is what clients show to their users. Default "restricted".
	Realm string
	// File is where Users come from: see [HandlerConfig.ReadFiles]. Empty: Users are given.
	File string
	// Users are those who get an answer. nil without File: anybody does, also on a route of a
	// Handler that has an Auth.
	Users *Htpasswd
	// DropCredentials keeps Authorization from backends, which get it otherwise, as from nginx.
	DropCredentials bool
}

// validateAuth returns what is wrong with a.
func validateAuth(a *BasicAuth) error {
	if a == nil {
		return nil
	}
	return errors.Join(
		field.If(!validHeader("X", a.Realm) || strings.ContainsAny(a.Realm, "\"\\"), "Auth.Realm", "%q: want text without quotes and backslashes", a.Realm),
		field.If(a.File != "" && a.Users == nil, "Auth.Users", "none: want what is in File, see ReadFiles"))
}

// auth is a BasicAuth as it is needed for requests.
type auth struct {
	users     *Htpasswd
	challenge string
	drop      bool
}

// compileAuth returns what a valid a means; nil: nobody is asked.
func compileAuth(a *BasicAuth) *auth {
	if a == nil || a.Users == nil {
		return nil
	}
	realm := a.Realm
	if realm == "" {
		realm = "restricted"
	}
	return &auth{a.Users, `Basic realm="` + realm + `", charset="UTF-8"`, a.DropCredentials}
}

// keepLogins has s and its routes go on with what prev, which may be nil, has found right, of
// users that are the same, and share what they find right themselves.
func (s *handlerSettings) keepLogins(prev *handlerSettings) {
	known := make(map[[32]byte]*Htpasswd)
	for _, p := range prev.all() {
		if p.auth != nil {
			known[p.auth.users.digest] = p.auth.users
		}
	}
	for _, next := range s.all() {
		if a := next.auth; a != nil {
			if known[a.users.digest] == nil {
				known[a.users.digest] = a.users
			}
			a.users = known[a.users.digest]
		}
	}
}

// claim is what a client says of itself.
type claim struct {
	users          *Htpasswd
	user, password string
	client         netip.Addr    // zero: not known
	patience       time.Duration // how long it may wait for its turn, and be verified
}

// checkLogin decides by the credentials of the request. awaitHere: x.claim has to be verified.
func (x *exchange) checkLogin(a *auth) verdict {
	user, password, ok := credentials(x.req)
	switch {
	case !ok:
		return x.challenge("no credentials")
	case a.users.knows(user, password):
		x.user = user
		return passOn
	}
	x.claim = claim{a.users, user, password, x.client.Addr(), x.cfg.ClientTimeout}
	return awaitHere
}

// decideLogin goes on where decide has returned awaitHere. err is what verify has returned.
func (x *exchange) decideLogin(err error) verdict {
	user := x.claim.user
	x.claim = claim{}
	switch err {
	case nil:
		x.user = user
		return x.decideRest()
	case errClientLogins:
		v := x.refuse(http.StatusTooManyRequests, err.Error())
		x.reply.fields = append(x.reply.fields, h1.Field{Name: "Retry-After", Value: "1"})
		return v
	case errManyLogins, errLateLogin:
		return x.refuse(http.StatusServiceUnavailable, err.Error())
	}
	return x.challenge(err.Error())
}

// challenge asks the client for credentials.
func (x *exchange) challenge(reason string) verdict {
	challenge := x.cfg.auth.challenge // before a page
	v := x.refuse(http.StatusUnauthorized, reason)
	x.reply.fields = append(x.reply.fields, h1.Field{Name: "WWW-Authenticate", Value: challenge, ID: h1.WWWAuthenticate})
	return v
}

// Bounds of what is hashed: SHA-crypt takes a time that grows with the square of a password.
const (
	maxUser     = 255
	maxPassword = 256
)

// credentials returns those of the request; false: there are none that can be right. Two
// Authorization fields are none: it is not known which one backends would go by.
func credentials(req *h1.Request) (user, password string, ok bool) {
	value, n := "", 0
	for i := range req.Fields {
		if f := &req.Fields[i]; f.ID == h1.Authorization {
			value = f.Value
			n++
		}
	}
	const scheme = "Basic "
	if n != 1 || len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", "", false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimLeft(value[len(scheme):], " "))
	if err != nil || bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7f }) { // RFC 7617 §2
		return "", "", false
	}
	user, password, ok = strings.Cut(string(b), ":")
	return user, password, ok && user != "" && len(user) <= maxUser && len(password) <= maxPassword
}
