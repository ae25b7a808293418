package lb

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var testSticky = Sticky{Cookie: "to", Key: []byte("0123456789abcdef")}

// cookieBackend answers with its name and the cookies that it gets.
func cookieBackend(t *testing.T, name string) Backend {
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "theirs=1")
		fmt.Fprintf(w, "%s %s", name, strings.Join(r.Header["Cookie"], "; "))
	})
	b.Name = name
	return b
}

// stuckTo asks with cookies, and returns what the backend says, and the cookie that the client
// gets of ours.
func stuckTo(t *testing.T, s *trapSite, cookies string) (said, token string) {
	t.Helper()
	request := "GET / HTTP/1.1\r\nHost: x\r\n"
	if cookies != "" {
		request += "Cookie: " + cookies + "\r\n"
	}
	answer := s.askRaw(t, request+"\r\n", "Set-Cookie")
	status, rest, _ := strings.Cut(answer, "\n")
	set, said, _ := strings.Cut(rest, "\n")
	if status != "200" || !strings.HasPrefix(set, "Set-Cookie: theirs=1") {
		t.Fatalf("%q", answer)
	}
	_, token, _ = strings.Cut(set, " + ")
	return said, token
}

// TestSticky: a client comes back to its backend, also one that drains or is a backup, and gets
// another cookie where that one cannot be. Backends do not get the cookie.
func TestSticky(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			sticky := testSticky
			bs := []Backend{cookieBackend(t, "a"), cookieBackend(t, "b"), cookieBackend(t, "c")}
			pool := newPool(t, PoolConfig{Name: "web", Backends: bs})
			s := front.serve(t, HandlerConfig{Pool: pool, Rules: Rules{Sticky: &sticky}})
			tokens := make(map[string]string)
			for range bs {
				name, set := stuckTo(t, s, "")
				token, suffix, _ := strings.Cut(set, ";")
				if want := "to=" + newStickiness(&testSticky).token("web", strings.TrimSpace(name)); token != want || suffix != " Path=/" {
					t.Errorf("%q, want %q", set, want)
				}
				tokens[strings.TrimSpace(name)] = token
			}
			if len(tokens) != 3 {
				t.Fatalf("%q", tokens)
			}
			stays := func(what, name string) {
				t.Helper()
				for range 4 {
					if said, set := stuckTo(t, s, "x=1; "+tokens[name]+"; y=2"); said != name+" x=1; y=2" || set != "" {
						t.Errorf("%s: %q, %q; want %s", what, said, set, name)
					}
				}
			}
			moves := func(what, from string) {
				t.Helper()
				said, set := stuckTo(t, s, tokens[from])
				name := strings.TrimSpace(said)
				if name == from || !strings.HasPrefix(set, tokens[name]) {
					t.Errorf("%s: %q, %q", what, said, set)
				}
			}
			for name := range tokens {
				stays("up", name)
			}
			for _, forged := range []string{"to=", "to=.", "to=a", "to=" + strings.Repeat("A", stickyLength), tokens["a"] + "x", "to=" + strings.Repeat(".", 4000)} {
				if said, set := stuckTo(t, s, forged); !strings.HasPrefix(set, tokens[strings.TrimSpace(said)]+";") {
					if !strings.Contains(set, "."+strings.Repeat("A", stickyLength)) { // maybe of another pool
						t.Errorf("%.50q: %q, %q", forged, said, set)
					}
				}
			}
			update := func(change func(b []Backend)) {
				changed := []Backend{bs[0], bs[1], bs[2]}
				change(changed)
				if err := pool.Update(changed); err != nil {
					t.Fatal(err)
				}
			}
			update(func(b []Backend) { b[1].Drain = true })
			stays("drains", "b")
			update(func(b []Backend) { b[1].Weight = -1 })
			stays("no weight", "b")
			update(func(b []Backend) { b[1].Backup = true })
			stays("a backup", "b")
			update(func([]Backend) {})
			pool.SetHealth("b", errDown)
			moves("down", "b")
			pool.SetHealth("b", nil)
			stays("up again", "b")
			if err := pool.Update(bs[:1]); err != nil {
				t.Fatal(err)
			}
			moves("removed", "b")
			if err := pool.Update([]Backend{cookieBackend(t, "d")}); err != nil {
				t.Fatal(err)
			}
			tokens["d"] = "to=" + newStickiness(&testSticky).token("web", "d")
			moves("another one in the place of all", "a")
			stays("new", "d")
		})
	}
}

// TestStickyMoves: a client whose backend fails is served by another one at once, and is that
// one's from then on.
func TestStickyMoves(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			sticky := testSticky
			bad := closedBackend(t)
			bad.Name = "bad"
			s := front.serve(t, HandlerConfig{Rules: Rules{Sticky: &sticky}}, bad, cookieBackend(t, "a"))
			pool := s.pool.Status().Name
			said, set := stuckTo(t, s, "to="+newStickiness(&testSticky).token(pool, "bad"))
			if want := "to=" + newStickiness(&testSticky).token(pool, "a") + "; Path=/"; said != "a " || set != want {
				t.Errorf("%q, %q; want %q", said, set, want)
			}
		})
	}
}

// TestStickyNames: our cookie is found as servers find one, so that no backend sees it, and what
// only looks like it goes on.
func TestStickyNames(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{Sticky: &testSticky}}, cookieBackend(t, "a"), cookieBackend(t, "b"))
			home, set := stuckTo(t, s, "")
			token, _, _ := strings.Cut(strings.TrimPrefix(set, "to="), ";")
			for cookies, passed := range map[string]string{
				"to=" + token:                            "",
				"to =" + token:                           "",
				"x=1; to\t= " + token + " ; y=2":         "x=1; y=2",
				"to; to=" + token:                        "to",
				"tox=1;\tto=" + token + "; to2=" + token: "tox=1; to2=" + token,
			} {
				said, again := stuckTo(t, s, cookies)
				if want := home + passed; said != want || again != "" {
					t.Errorf("%q: %q and the cookie %q, want %q and none", cookies, said, again, want)
				}
			}
			for _, cookies := range []string{"to", "xto=" + token} { // are not ours
				if said, again := stuckTo(t, s, cookies); !strings.HasSuffix(said, " "+cookies) || again == "" {
					t.Errorf("%q: %q and the cookie %q, want it passed on, and one", cookies, said, again)
				}
			}
		})
	}
}

// TestStickyKeyChanges: a cookie of another key is as none, and no backend sees it.
func TestStickyKeyChanges(t *testing.T) {
	other := testSticky
	other.Key = []byte("fedcba9876543210")
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			backends := []Backend{cookieBackend(t, "a"), cookieBackend(t, "b")}
			before := front.serve(t, HandlerConfig{Rules: Rules{Sticky: &testSticky}}, backends...)
			after := front.serve(t, HandlerConfig{Rules: Rules{Sticky: &other}}, backends...)
			_, set := stuckTo(t, before, "")
			old, _, _ := strings.Cut(set, ";")
			said, set := stuckTo(t, after, old+"; mine=1")
			if !strings.HasSuffix(said, " mine=1") || !strings.HasPrefix(set, "to=") || strings.HasPrefix(set, old) {
				t.Fatalf("%q and %q after %q", said, set, old)
			}
			renewed, _, _ := strings.Cut(set, ";")
			if again, set := stuckTo(t, after, renewed+"; mine=1"); again != said || set != "" {
				t.Errorf("%q and %q, want %q again", again, set, said)
			}
		})
	}
}

// TestStickyOfPools: routes with pools of their own share a cookie: each knows its backend.
func TestStickyOfPools(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			sticky := testSticky
			site := newPool(t, PoolConfig{Name: "site", Backends: []Backend{cookieBackend(t, "a"), cookieBackend(t, "b")}})
			api := newPool(t, PoolConfig{Name: "api", Backends: []Backend{cookieBackend(t, "c"), cookieBackend(t, "d")}})
			s := front.serve(t, HandlerConfig{Pool: site, Rules: Rules{Sticky: &sticky}, Routes: []Route{
				{Name: "api", Hosts: []string{"api"}, HandlerConfig: HandlerConfig{Pool: api}},
				{Name: "none", Hosts: []string{"none"}, HandlerConfig: HandlerConfig{Rules: Rules{Sticky: new(Sticky)}}},
			}})
			cookie := ""
			var said []string
			for i := range 8 {
				host := []string{"site", "api"}[i%2]
				answer := s.askRaw(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\nCookie: z=1; "+cookie+"\r\n\r\n", "Set-Cookie")
				if _, set, is := strings.Cut(answer, " + "); is {
					cookie, _, _ = strings.Cut(set, ";")
				}
				said = append(said, answer[strings.LastIndex(answer, "\n")+1:][:1])
			}
			if got := strings.Join(said, ""); got != strings.Repeat(got[:2], 4) {
				t.Errorf("%q: not the same ones each time", got)
			}
			if answer := s.askRaw(t, "GET / HTTP/1.1\r\nHost: none\r\n\r\n", "Set-Cookie"); !strings.Contains(answer, "Set-Cookie: theirs=1\n") {
				t.Errorf("a route without: %q", answer)
			}
		})
	}
}

// TestStickyConfig: what the cookie says, and what is no Sticky.
func TestStickyConfig(t *testing.T) {
	for _, tt := range []struct {
		sticky Sticky
		want   string // the suffix, or the field that is wrong
	}{
		{Sticky{}, ""},
		{Sticky{MaxAge: time.Hour, Path: "/a", Domain: "example.org", Secure: true, HTTPOnly: true, SameSite: SameSiteNone},
			"; Path=/a; Domain=example.org; Max-Age=3600; Secure; HttpOnly; SameSite=None"},
		{Sticky{SameSite: SameSiteLax}, "; Path=/; SameSite=Lax"},
		{Sticky{SameSite: SameSiteStrict}, "; Path=/; SameSite=Strict"},
		{Sticky{SameSite: SameSiteNone}, "SameSite: none"},
		{Sticky{MaxAge: time.Millisecond}, "MaxAge: 1ms"},
		{Sticky{MaxAge: -time.Second}, "MaxAge: -1s"},
		{Sticky{Path: "a"}, `Path: "a"`},
		{Sticky{Path: "/;x"}, `Path: "/;x"`},
		{Sticky{Domain: "a;b"}, `Domain: "a;b"`},
		{Sticky{Domain: "a:80"}, `Domain: "a:80"`},
		{Sticky{Key: []byte("0123456789abcde")}, "Key: 15 bytes"},
		{Sticky{Cookie: "a b"}, `Cookie: "a b"`},
		{Sticky{Cookie: "a;b"}, `Cookie: "a;b"`},
	} {
		s := tt.sticky
		if tt.want != "" {
			if s.Cookie == "" {
				s.Cookie = testSticky.Cookie
			}
			if s.Key == nil {
				s.Key = testSticky.Key
			}
		}
		got := ""
		if err := s.Validate(); err != nil {
			got = err.Error()
		} else if c := newStickiness(&s); c != nil {
			got = c.suffix
		}
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%+v: %q, want %q", s, got, tt.want)
		}
	}
}

// TestHashKey: requests with the same key go to the same backend, on every node, and those of a
// backend that goes are all that move. Without a key a client's address is one.
func TestHashKey(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			for key, requests := range map[string][2]string{ // with a %d, and without a key
				"${cookie_id}":          {"GET /%[2]d HTTP/1.1\r\nHost: x\r\nCookie: a=b; id=%[1]d\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: x\r\nCookie: a=%[1]d\r\n\r\n"},
				"${header_X-User}":      {"GET /%[2]d HTTP/1.1\r\nHost: x\r\nX-User: %[1]d\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"},
				"user=${header_X-User}": {"GET /%[2]d HTTP/1.1\r\nHost: x\r\nX-User: %[1]d\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"},
				"${arg_id}":             {"GET /%[2]d?a=b&id=%[1]d HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%d?a=b HTTP/1.1\r\nHost: x\r\n\r\n"},
				"${path}":               {"GET /%[1]d?%[2]d HTTP/1.1\r\nHost: x\r\n\r\n", ""},
				"${uri}":                {"GET /x?%[1]d HTTP/1.1\r\nHost: x\r\nX-Y: %[2]d\r\n\r\n", ""},
			} {
				bs := []Backend{webBackend(t, name("a")), webBackend(t, name("b")), webBackend(t, name("c"))}
				for i := range bs {
					bs[i].Name = string(rune('a' + i))
				}
				pools := [2]*Pool{}
				nodes := [2]*trapSite{}
				for i := range nodes {
					pools[i] = newPool(t, PoolConfig{Balance: KeyHash, Backends: bs})
					nodes[i] = front.serve(t, HandlerConfig{Pool: pools[i], Rules: Rules{HashKey: key}})
				}
				ask := func(node, id, other int) string {
					answer := nodes[node].askRaw(t, fmt.Sprintf(requests[0], id, other))
					return answer[strings.LastIndex(answer, "\n")+1:]
				}
				before, seen := make(map[int]string), make(map[string]bool)
				for id := range 30 {
					before[id] = ask(0, id, 1)
					seen[before[id]] = true
					if again, there := ask(0, id, 2), ask(1, id, 3); again != before[id] || there != again {
						t.Errorf("%s, %d: %q, then %q, and on the other node %q", key, id, before[id], again, there)
					}
				}
				if len(seen) != 3 {
					t.Errorf("%s: only %v", key, seen)
				}
				pools[0].SetHealth("b", errDown)
				for id := range 30 {
					if got := ask(0, id, 1); got != before[id] && before[id] != "b" || got == "b" {
						t.Errorf("%s, %d: %q after %q", key, id, got, before[id])
					}
				}
				if requests[1] == "" {
					continue
				}
				clear(seen)
				for i := range 10 {
					answer := nodes[1].askRaw(t, fmt.Sprintf(requests[1], i))
					seen[answer[strings.LastIndex(answer, "\n")+1:]] = true
				}
				var addressed Pick
				addressed, _ = pools[1].Pick(&Flow{Key: "127.0.0.1"})
				if !seen[addressed.Backend()] || len(seen) != 1 {
					t.Errorf("%s: clients without a key have %v, want %s", key, seen, addressed.Backend())
				}
				addressed.Done(Neutral)
			}
		})
	}
	for value, want := range map[string]string{
		"": "", "${cookie_a}": "", "x": `HashKey: "x": all requests have it`, "${backend}": `HashKey: "${backend}": no such variable here`, "${nothing": "HashKey",
	} {
		got := ""
		if err := validateHashKey(value); err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
