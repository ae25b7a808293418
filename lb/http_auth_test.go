package lb

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// hashes are of the password "secret", as openssl passwd and crypt(3) make them.
var hashes = map[string]string{
	"apr1":   "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
	"md5":    "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
	"sha256": "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
	"sha512": "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
	"sha":    "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
	"ssha":   "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0",
	"bcrypt": "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
}

// htpasswdText has a user for each of the hashes.
func htpasswdText() string {
	text := "# users\n\n"
	for user, hash := range hashes {
		text += user + ":" + hash + ":a comment\r\n"
	}
	return text
}

func users(t testing.TB, text string) *Htpasswd {
	t.Helper()
	h, err := ParseHtpasswd([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// asked is a request with an Authorization; empty: without.
func asked(path, authorization string) string {
	if authorization != "" {
		authorization = "Authorization: " + authorization + "\r\n"
	}
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + authorization + "\r\n"
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// authCases are requests and whether they get an answer.
var authCases = []struct {
	name, authorization string
	served              bool
}{
	{"none", "", false},
	{"apr1", basic("apr1", "secret"), true},
	{"md5", basic("md5", "secret"), true},
	{"sha256", basic("sha256", "secret"), true},
	{"sha512", basic("sha512", "secret"), true},
	{"sha", basic("sha", "secret"), true},
	{"ssha", basic("ssha", "secret"), true},
	{"bcrypt", basic("bcrypt", "secret"), true},
	{"bcrypt, once more", basic("bcrypt", "secret"), true},
	{"another password", basic("bcrypt", "Secret"), false},
	{"another password, cheap", basic("sha", "Secret"), false},
	{"a beginning of the password", basic("bcrypt", "secre"), false},
	{"no password", basic("bcrypt", ""), false},
	{"an unknown user", basic("nobody", "secret"), false},
	{"no user", basic("", "secret"), false},
	{"the hash for the password", basic("bcrypt", hashes["bcrypt"]), false},
	{"the user in capitals", basic("BCRYPT", "secret"), false},
	{"scheme in capitals", strings.ToUpper("basic") + basic("sha", "secret")[5:], true},
	{"another scheme", "Bearer" + basic("sha", "secret")[5:], false},
	{"no base64", "Basic ?", false},
	{"no colon", "Basic " + base64.StdEncoding.EncodeToString([]byte("sha")), false},
	{"NUL", basic("bcrypt", "secret\x00"), false},
}

// TestBasicAuth: who has a right password gets an answer, and everybody else a challenge.
func TestBasicAuth(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Authorization")) })
			s := front.serve(t, HandlerConfig{Rules: Rules{Auth: &BasicAuth{Realm: "closed site", Users: users(t, htpasswdText())}}}, b)
			for _, tt := range authCases {
				want := "401\nWWW-Authenticate: Basic realm=\"closed site\", charset=\"UTF-8\"\n401 Unauthorized\n"
				if tt.served {
					want = "200\nWWW-Authenticate: -\n" + tt.authorization
				}
				if got := s.askRaw(t, asked("/", tt.authorization), "WWW-Authenticate"); got != want {
					t.Errorf("%s: %q, want %q", tt.name, got, want)
				}
			}
		})
	}
}

// TestAuthOfRoutes: a route may ask nobody, others than the service does, or keep what clients
// send from backends.
func TestAuthOfRoutes(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Authorization")) })
			own := &BasicAuth{Users: users(t, "b:"+hashes["sha"]), DropCredentials: true}
			s := front.serve(t, HandlerConfig{Rules: Rules{Auth: &BasicAuth{Users: users(t, "a:"+hashes["sha"])}}, Routes: []Route{
				{Name: "open", Paths: []string{"/open"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: &BasicAuth{}}}},
				{Name: "own", Paths: []string{"/own"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: own}}},
			}}, b)
			a, other := basic("a", "secret"), basic("b", "secret")
			for request, want := range map[string]string{
				asked("/", ""): "401", asked("/", a): "200\n" + a, asked("/", other): "401",
				asked("/open", ""): "200\n", asked("/own", a): "401", asked("/own", other): "200\n",
			} {
				got := s.askRaw(t, request)
				if strings.HasPrefix(got, "401\n") {
					got = "401"
				}
				if got != want {
					t.Errorf("%q: %q, want %q", request, got, want)
				}
			}
		})
	}
}

// TestUserOfALogin: backends get the user who has logged in, and none whom a client only claims.
func TestUserOfALogin(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			b := webBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header["X-User"]) })
			cfg := HandlerConfig{RequestHeaders: map[string]string{"X-User": "${user}"}, ResponseHeaders: map[string]string{"X-Who": "${user}"}}
			cfg.Auth = &BasicAuth{Users: users(t, htpasswdText()), DropCredentials: true}
			cfg.Routes = []Route{{Name: "open", Paths: []string{"/open"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: &BasicAuth{}}}}}
			s := front.serve(t, cfg, b)
			for _, c := range []struct{ name, path, authorization, want string }{
				{"verified", "/", basic("bcrypt", "secret"), "200\nX-Who: bcrypt\n[bcrypt]"},
				{"known", "/", basic("bcrypt", "secret"), "200\nX-Who: bcrypt\n[bcrypt]"},
				{"another one", "/", basic("sha", "secret"), "200\nX-Who: sha\n[sha]"},
				{"wrong", "/", basic("sha", "no"), "401\nX-Who: -\n401 Unauthorized\n"},
				{"not asked", "/open", basic("sha", "secret"), "200\nX-Who: -\n[]"},
			} {
				request := strings.TrimSuffix(asked(c.path, c.authorization), "\r\n") + "X-User: root\r\n\r\n"
				if got := s.askRaw(t, request, "X-Who"); got != c.want {
					t.Errorf("%s: %q, want %q", c.name, got, c.want)
				}
			}
		})
	}
}

// TestRulesOfTheWholeServer: the rules for all paths are those of OPTIONS * as well, and a
// redirect leads nobody to another host.
func TestRulesOfTheWholeServer(t *testing.T) {
	for _, front := range trapFronts() {
		if front.http2 {
			continue // a client of net/http has no *
		}
		t.Run(front.name, func(t *testing.T) {
			rec, b := record(t)
			all := func(host string, r Rules) Route {
				return Route{Name: host, Hosts: []string{host}, Paths: []string{"/"}, HandlerConfig: HandlerConfig{Rules: r}}
			}
			s := front.serve(t, HandlerConfig{Routes: []Route{
				all("auth", Rules{Auth: &BasicAuth{Users: users(t, htpasswdText())}}),
				all("denied", Rules{Access: []AccessRule{{Deny: true}}}),
				all("moved", Rules{Redirect: Redirect{Location: "https://example.org${uri}"}}),
				all("moved-path", Rules{Redirect: Redirect{Location: "https://example.org${path}"}}),
				all("rewritten", Rules{Rewrite: Rewrite{AddPrefix: "/v1"}}),
			}}, b)
			for host, want := range map[string]string{
				"auth": "401", "denied": "403", "moved": "302 https://example.org/", "moved-path": "302 https://example.org/", "rewritten": "200", "another": "200",
			} {
				for _, target := range []string{"*", "http://" + host} {
					if target == "*" && !strings.HasPrefix(front.name, "loops") {
						continue // net/http answers
					}
					lines := strings.Split(s.askRaw(t, "OPTIONS "+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n", "Location"), "\n")
					if got := strings.TrimSuffix(lines[0]+strings.TrimPrefix(lines[1], "Location:"), " -"); got != want {
						t.Errorf("%s, %s: %q, want %q", target, host, got, want)
					}
				}
			}
			for _, r := range rec.Requests() {
				if !strings.HasPrefix(r, "OPTIONS * HTTP/1.1\r\n") {
					t.Errorf("a backend got %q", r)
				}
			}
		})
	}
}

// TestParseHtpasswd: what is no file of users is told by its line, and no hash is told.
func TestParseHtpasswd(t *testing.T) {
	hash, _ := bcrypt.GenerateFromPassword([]byte("secret"), 4)
	good := "a:" + string(hash) + "\n"
	for name, tt := range map[string]struct{ text, want string }{
		"empty":             {"", ""},
		"users":             {htpasswdText(), ""},
		"no colon":          {good + "b\n", "line 2: "},
		"no user":           {":" + string(hash), "line 1: "},
		"no hash":           {"# c\n\nb:", "line 3: "},
		"twice":             {good + "b:" + hashes["sha"] + "\n" + good, "line 3: want one line for a user"},
		"plain text":        {"b:{PLAIN}hunter2", "line 1: want a hash by bcrypt"},
		"DES":               {"b:rqXexS6ZhobKA", "line 1: want a hash by bcrypt"},
		"half of bcrypt":    {"b:" + string(hash[:40]), "line 1: want a whole hash"},
		"bcrypt for a day":  {"b:$2y$31$" + string(hash[7:]), "line 1: bcrypt of cost 31: want at most 14"},
		"half of SHA":       {"b:{SHA}aaaa", "line 1: want 20 bytes"},
		"SSHA without salt": {"b:{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "line 1: want 20 bytes and a salt"},
		"too many rounds":   {"b:$6$rounds=999999999$abcdefgh$ltjgWl6579NluT", "line 1: want at most 200000 rounds"},
		"no digest":         {"b:$apr1$abcdefgh$", "line 1: want salt and digest"},
		"huge":              {strings.Repeat("#", MaxRuleFile+1), "want at most 1048576"},
		"many lines":        {strings.Repeat("\n", maxUsers) + good, "line 100001: want at most 100000 lines"},
	} {
		_, err := ParseHtpasswd([]byte(tt.text))
		said := fmt.Sprint(err)
		if (err == nil) != (tt.want == "") || !strings.Contains(said, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for _, secret := range []string{"hunter2", "rqXexS6ZhobKA", string(hash[10:20]), "ltjgWl"} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: the error tells the hash: %v", name, err)
			}
		}
	}
}

// TestVerifiedLogins: what is remembered is bounded, and only what was right.
func TestVerifiedLogins(t *testing.T) {
	u := users(t, htpasswdText())
	if u.verify("sha", "no") || u.knows("sha", "no") || u.verify("nobody", "secret") || u.knows("nobody", "secret") {
		t.Error("a wrong login is remembered")
	}
	if u.knows("sha", "secret") || !u.verify("sha", "secret") || !u.knows("sha", "secret") || u.knows("shas", "ecret") {
		t.Error("a right login is not what is remembered")
	}
	for i := range 2 * maxVerified {
		u.verified[loginKey{byte(i), byte(i >> 8), byte(i >> 16)}] = struct{}{}
	}
	if !u.verify("ssha", "secret") || len(u.verified) > maxVerified || !u.knows("ssha", "secret") {
		t.Errorf("%d are remembered", len(u.verified))
	}
}

func FuzzParseHtpasswd(f *testing.F) {
	f.Add([]byte(htpasswdText()))
	for _, hash := range hashes {
		f.Add([]byte("a:" + hash))
	}
	f.Add([]byte("a:$6$rounds=1000$abcdefgh$x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseHtpasswd(data)
		if err != nil {
			return
		}
		for user, hash := range h.hashes {
			if cost, _ := hashCost(hash); cost > 0 && len(h.decoys) == 0 {
				t.Errorf("%q costs more than an unknown user", user)
			}
		}
		for user, hash := range h.hashes {
			if cost, _ := hashCost(hash); cost <= 5000 { // others take their time
				h.verify(user, "secret")
				return
			}
		}
	})
}
