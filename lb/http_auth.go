package lb

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb/internal/h1"
)

// BasicAuth asks clients for a user and a password (RFC 7617).
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

// claim is what a client says of itself.
type claim struct {
	users          *Htpasswd
	user, password string
}

// checkLogin decides by the credentials of the request. awaitHere: x.claim has to be verified.
func (x *exchange) checkLogin(a *auth) verdict {
	user, password, ok := credentials(x.req)
	switch {
	case !ok:
		return x.challenge("no credentials")
	case a.users.knows(user, password):
		return passOn
	}
	x.claim = claim{a.users, user, password}
	return awaitHere
}

// decideLogin goes on where decide has returned awaitHere. err is what verify has returned.
func (x *exchange) decideLogin(err error) verdict {
	x.claim = claim{}
	switch {
	case err == nil:
		return x.decideRest()
	case errors.Is(err, errManyLogins):
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
	return user, password, ok && user != ""
}

var (
	errWrongLogin = errors.New("wrong user or password")
	errManyLogins = errors.New("too many passwords to verify")
)

// loginGate bounds the passwords that are verified at the same time in this process, whose
// processors all services share.
type loginGate struct {
	slots   chan struct{}
	waiting atomic.Int32
}

// maxWaitingLogins is how many may wait for that.
const maxWaitingLogins = 100

// logins is half of the processors' time.
var logins = loginGate{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}

// verify returns nil if the login is right, errWrongLogin, errManyLogins, or the error of ctx.
func (l claim) verify(ctx context.Context) error {
	if logins.waiting.Add(1) > maxWaitingLogins {
		logins.waiting.Add(-1)
		return errManyLogins
	}
	select {
	case logins.slots <- struct{}{}:
		logins.waiting.Add(-1)
	case <-ctx.Done():
		logins.waiting.Add(-1)
		return ctx.Err()
	}
	defer func() { <-logins.slots }()
	if l.users.knows(l.user, l.password) || l.users.verify(l.user, l.password) { // another request of it may have been first
		return nil
	}
	return errWrongLogin
}
