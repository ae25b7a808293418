package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Sessions are those of the page: who has logged in with the token steers by a cookie.
// They are in memory only: a restart, and another token, end them.
const (
	sessionTime = 12 * time.Hour
	sessionIdle = time.Hour
	maxSessions = 64 // the one that was used least lately gives its place
	csrfHeader  = "X-CSRF-Token"
)

// session is one login. Its identifier, which the cookie has, is not kept: only its digest.
type session struct {
	token secretSum // the file's, that was shown
	csrf  string    // that requests which change something repeat in a header
	began time.Time
	used  time.Time
}

// confirms reports whether a request comes from the page that the session was given to.
func (s *session) confirms(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(csrf), []byte(s.csrf)) == 1
}

type sessions struct {
	mu  sync.Mutex // guards what follows, and session.used; a leaf
	all map[secretSum]*session
}

func newSessions() sessions { return sessions{all: map[secretSum]*session{}} }

// begin makes a session of who has shown a token, and returns its identifier.
func (s *sessions) begin(token secretSum, now time.Time) (id string, made *session) {
	id, made = rand.Text()+rand.Text(), &session{token: token, csrf: rand.Text(), began: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest secretSum
	for sum, old := range s.all {
		if old.over(now) {
			delete(s.all, sum)
		} else if s.all[oldest] == nil || old.used.Before(s.all[oldest].used) {
			oldest = sum
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
	s.all[sumOf(id)] = made
	return id, made
}

// find returns the session of an identifier; nil: there is none, it is over, or it was
// begun with another token than that of now, be it at the very moment of a reload.
func (s *sessions) find(id string, token secretSum, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[sumOf(id)]
	if found == nil || found.token != token || found.over(now) {
		return nil
	}
	found.used = now
	return found
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.began) > sessionTime || now.Sub(s.used) > sessionIdle
}

// end forgets a session.
func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sumOf(id))
}

// cookieName has the port: cookies know none, and a host may run several havip. With its
// prefix a browser takes it from this host alone, and over TLS (RFC 6265bis §4.1.3.2).
func (c *call) cookieName() string {
	_, port, _ := net.SplitHostPort(c.client.LocalAddr().String())
	if c.r.TLS != nil {
		return "__Host-havip-" + port
	}
	return "havip-" + port
}

// cookie is the one that begins or, if id is empty, ends a session in the browser.
func (c *call) cookie(id string) *http.Cookie {
	k := &http.Cookie{
		Name: c.cookieName(), Value: id, Path: "/", MaxAge: int(sessionTime / time.Second),
		HttpOnly: true, Secure: c.r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
	if id == "" {
		k.MaxAge = -1
	}
	return k
}

// loginBody is the body of POST /login.
type loginBody struct {
	Token string `json:"token"`
}

// accessBody says what who asks may do.
type accessBody struct {
	Who    string `json:"who"`
	Steers bool   `json:"steers"`
	// Login: a token can be shown to POST /login.
	Login bool `json:"login"`
	// CSRF is what requests of the page have in the header X-CSRF-Token.
	CSRF string `json:"csrf,omitempty"`
}

func (s *Server) accessBody(c *call) accessBody {
	b := accessBody{Who: c.by.who, Steers: c.by.steers, Login: c.client.address != "" && c.set.token != secretSum{}}
	if c.by.session != nil {
		b.CSRF = c.by.session.csrf
	}
	return b
}

func (s *Server) answerAccess(c *call) (any, error) { return s.accessBody(c), nil }

// logIn begins a session of whoever has the token.
func (s *Server) logIn(c *call) (any, error) {
	var body loginBody
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if c.client.address == "" {
		return nil, failf(http.StatusConflict, "the socket goes by users: there is nothing to log in to")
	}
	if err := s.checkToken(c, body.Token); err != nil {
		return nil, err
	}
	id, made := s.sessions.begin(c.set.token, time.Now())
	http.SetCookie(c.w, c.cookie(id))
	c.by = access{steers: true, who: "the page, from " + c.client.address, session: made}
	s.log.Info("admin: logged in", "who", c.by.who)
	return s.accessBody(c), nil
}

// logOut ends the session that asks for it. Without one there is nothing to do.
func (s *Server) logOut(c *call) (any, error) {
	if k, err := c.r.Cookie(c.cookieName()); err == nil && c.by.session != nil {
		if !c.by.session.confirms(c.r.Header.Get(csrfHeader)) {
			return nil, failf(http.StatusForbidden, "header %s is not that of this session: load the page again", csrfHeader)
		}
		s.sessions.end(k.Value)
		http.SetCookie(c.w, c.cookie(""))
		s.log.Info("admin: logged out", "who", fmt.Sprint(c.by.who))
	}
	return nil, nil
}
