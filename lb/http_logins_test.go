package lb

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// holdLogins has no login get a turn until release is called, or the test ends.
func holdLogins(t *testing.T) (release func()) {
	const all = 1 << 20
	add := func(n int) {
		logins.mu.Lock()
		defer logins.mu.Unlock()
		logins.free += n
		logins.start()
	}
	add(-all)
	release = sync.OnceFunc(func() { add(all) })
	t.Cleanup(release)
	return release
}

// loginsWaiting returns how many logins wait for a turn, and how many requests for these.
func loginsWaiting(g *loginGate) (waiting, requests int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pending {
		requests += p.waiters
	}
	return g.waiting, requests
}

func awaitLogins(t *testing.T, want int) {
	t.Helper()
	waitFor(t, fmt.Sprint(want, " logins to wait"), func() bool { n, _ := loginsWaiting(logins); return n == want })
}

// shaLine is a line of a user, for any password.
func shaLine(user, password string) string {
	sum := sha1.Sum([]byte(password))
	return user + ":{SHA}" + base64.StdEncoding.EncodeToString(sum[:]) + "\n"
}

// status is the first line of an answer.
func statusOf(answer string) string {
	status, _, _ := strings.Cut(answer, "\n")
	return status
}

// TestLoginsDoNotBlock: while passwords wait to be verified, other requests are answered, and a
// client may leave.
func TestLoginsDoNotBlock(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			release := holdLogins(t)
			u := users(t, htpasswdText())
			if !u.verify("sha", "secret") {
				t.Fatal("a right password is not")
			}
			s := front.serve(t, HandlerConfig{Rules: Rules{Auth: &BasicAuth{Users: u}}}, webBackend(t, name("app")))
			answers := make(chan string, 1)
			go func() { answers <- s.askRaw(t, asked("/", basic("bcrypt", "secret"))) }()
			awaitLogins(t, 1)
			if got := s.askRaw(t, asked("/", basic("sha", "secret"))); got != "200\napp" {
				t.Errorf("who is known: %q", got)
			}
			if !front.http2 {
				c := s.dial()
				io.WriteString(c, asked("/", basic("apr1", "secret")))
				awaitLogins(t, 2)
				reset(c)
				awaitLogins(t, 1)
			}
			release()
			if got := <-answers; got != "200\napp" {
				t.Errorf("who has waited: %q", got)
			}
		})
	}
}

// TestLoginsOfManyClients: a client that sends wrong passwords without end is told to come
// later, and another one gets its turn at once. Requests with the same login are one.
func TestLoginsOfManyClients(t *testing.T) {
	from := func(client, user, password string) string {
		return "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + client + "\r\nAuthorization: " + basic(user, password) + "\r\n\r\n"
	}
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			release := holdLogins(t)
			u := users(t, htpasswdText())
			s := front.serve(t, HandlerConfig{
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
				Rules:          Rules{Auth: &BasicAuth{Users: u}},
			}, webBackend(t, name("app")))
			var clients sync.WaitGroup
			const flood = maxClientLogins + 20
			wrong := make(chan string, flood)
			for i := range flood {
				clients.Go(func() { wrong <- s.askRaw(t, from("192.0.2.1", "bcrypt", strconv.Itoa(i)), "Retry-After") })
			}
			for range flood - maxClientLogins { // beyond the bound
				if got := <-wrong; !strings.HasPrefix(got, "429\nRetry-After: 1\n") {
					t.Errorf("a password too many: %q", got)
				}
			}
			const same = 10
			right := make(chan string, same)
			for range same {
				clients.Go(func() { right <- s.askRaw(t, from("192.0.2.2", "sha512", "secret")) })
			}
			waitFor(t, "all requests", func() bool {
				waiting, requests := loginsWaiting(logins)
				return waiting == maxClientLogins+1 && requests == maxClientLogins+same
			})
			release()
			for range same {
				if got := <-right; got != "200\napp" {
					t.Errorf("another client: %q", got)
				}
			}
			clients.Wait()
			for range maxClientLogins {
				if got := <-wrong; statusOf(got) != "401" {
					t.Errorf("a wrong password: %q", got)
				}
			}
		})
	}
}

// TestLongLogins: what is longer than any password is not hashed.
func TestLongLogins(t *testing.T) {
	long := strings.Repeat("p", maxPassword)
	user := strings.Repeat("u", maxUser)
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			u := users(t, shaLine("a", long)+shaLine("b", long+"p")+shaLine(user, "secret")+shaLine(user+"u", "secret")+"c:"+hashes["sha512"])
			s := front.serve(t, HandlerConfig{Rules: Rules{Auth: &BasicAuth{Users: u}}}, webBackend(t, name("app")))
			for _, login := range [][2]string{{"a", long}, {user, "secret"}} {
				if got := s.askRaw(t, asked("/", basic(login[0], login[1]))); got != "200\napp" {
					t.Errorf("a login as long as may be: %q", got)
				}
			}
			holdLogins(t) // whoever is verified waits
			for _, login := range [][2]string{{"b", long + "p"}, {user + "u", "secret"}, {"c", strings.Repeat("p", 20_000)}} {
				if got := s.askRaw(t, asked("/", basic(login[0], login[1]))); statusOf(got) != "401" {
					t.Errorf("a longer login: %q", got)
				}
			}
		})
	}
}

// TestLoginGate: clients take turns; each of them, those for the same users, and all together
// have a bound; nobody waits for ever.
func TestLoginGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLoginGate(0)
		u, others := users(t, shaLine("a", "secret")), users(t, "b:"+hashes["apr1"])
		client := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
		outcome := func(ctx context.Context, u *Htpasswd, n int, password string) <-chan error {
			done := make(chan error, 1)
			go func() { done <- g.verify(ctx, claim{u, "a", password, client(n), time.Minute}) }()
			synctest.Wait()
			return done
		}
		await := func(u *Htpasswd, n int, password string) <-chan error { return outcome(t.Context(), u, n, password) }
		turn := func() { // of one login
			g.mu.Lock()
			g.free = 1
			g.start()
			g.free = -1 // none when this one ends
			g.mu.Unlock()
			synctest.Wait()
		}
		first, second, same := await(u, 1, "secret"), await(u, 1, "no"), await(u, 3, "secret")
		other := await(u, 2, "never")
		for i, want := range [][]<-chan error{{first, same}, {other}, {second}} {
			turn()
			for _, c := range want {
				if len(c) != 1 {
					t.Errorf("turn %d is another one's", i+1)
				} else if err := <-c; (err == nil) != (i == 0) || i > 0 && err != errWrongLogin {
					t.Errorf("turn %d: %v", i+1, err)
				}
			}
		}

		ctx, leave := context.WithCancel(t.Context())
		one, two := outcome(ctx, u, 1, "x"), await(u, 1, "x")
		leave()
		if err := <-one; err != ctx.Err() {
			t.Errorf("who has left: %v", err)
		}
		if n, requests := loginsWaiting(g); n != 1 || requests != 1 {
			t.Errorf("%d logins wait, for %d requests, want those of who is still there", n, requests)
		}
		if err := <-two; err != errLateLogin { // a minute later
			t.Errorf("who has waited too long: %v", err)
		}

		for i := range maxUsersLogins { // of 8 clients
			await(u, i/maxClientLogins, strconv.Itoa(i))
		}
		for _, c := range []struct {
			u      *Htpasswd
			client int
			want   error
		}{{u, 1, errClientLogins}, {others, 1, errClientLogins}, {u, 100, errManyLogins}} {
			if err := <-await(c.u, c.client, "more"); err != c.want {
				t.Errorf("client %d: %v, want %v", c.client, err, c.want)
			}
		}
		for i := range maxWaitingLogins - maxUsersLogins {
			await(others, 100+i/maxClientLogins, strconv.Itoa(i))
		}
		if err := <-await(users(t, shaLine("c", "x")), 200, "more"); err != errManyLogins {
			t.Errorf("more than may wait: %v", err)
		}
		time.Sleep(time.Hour) // all are late
		synctest.Wait()
		if n, requests := loginsWaiting(g); n+requests+len(g.clients)+len(g.turns)+len(g.pending)+u.waiting+others.waiting != 0 {
			t.Errorf("%d logins wait, for %d requests, of %d clients, when nobody does", n, requests, len(g.clients))
		}
	})
}

// TestRefusedLoginsCostTheSame: the time of a refusal does not tell which users there are, nor
// how their passwords are hashed.
func TestRefusedLoginsCostTheSame(t *testing.T) {
	more := "x:$2y$05$" + hashes["bcrypt"][7:] + "\ny:$6$rounds=100000$" + hashes["sha512"][3:] + "\n"
	for name, text := range map[string]string{"mixed": htpasswdText() + more, "cheap": shaLine("a", "x"), "one": "a:" + hashes["bcrypt"], "none": ""} {
		u := users(t, text)
		costs := func(user string) (all []int) {
			own, decoys := u.work(user)
			for _, hash := range append(decoys, own) {
				if cost, _ := hashCost(hash); cost > 0 {
					all = append(all, cost)
				}
			}
			slices.Sort(all)
			return all
		}
		unknown := costs("nobody")
		for user := range u.hashes {
			if got := costs(user); !slices.Equal(got, unknown) {
				t.Errorf("%s: %q costs %v, an unknown user %v", name, user, got, unknown)
			}
		}
		if name == "mixed" && len(unknown) < 5 {
			t.Errorf("an unknown user costs %v", unknown)
		}
	}
	// Of hashes that cost about the same, the most expensive one counts.
	rounds := func(user string, n int) string {
		return fmt.Sprintf("%s:$6$rounds=%d$%s\n", user, n, hashes["sha512"][3:])
	}
	for _, text := range []string{rounds("a", 5000) + rounds("b", 6000), rounds("a", 6000) + rounds("b", 5000)} {
		_, decoys := users(t, text).work("nobody")
		if len(decoys) != 1 || !strings.Contains(decoys[0], "=6000$") {
			t.Errorf("an unknown user is compared with %q, want what has 6000 rounds", decoys)
		}
	}
}

// TestUnknownUsersTakeAsLong: the password of a user who is not there is compared with something,
// too. Without that it would take next to no time, on whatever machine.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	u := users(t, "a:$2y$09$"+hashes["bcrypt"][7:])
	lasts := func(user string) time.Duration {
		start := time.Now()
		if u.verify(user, "wrong") {
			t.Fatalf("%s: a wrong password is right", user)
		}
		return time.Since(start)
	}
	for range 20 { // until the machine has time for both
		known, unknown := lasts("a"), lasts("nobody")
		if unknown > known/4 {
			return
		}
		t.Logf("a user who is there: %v, one who is not: %v", known, unknown)
	}
	t.Error("it can be seen which users there are")
}

// TestReloadKeepsLogins: what was found right is right after a reload, too, if the text of the
// users is the same; other users are verified.
func TestReloadKeepsLogins(t *testing.T) {
	text := htpasswdText()
	cfg := func(text string, maxBody int64) HandlerConfig {
		read := func(string) ([]byte, error) { return []byte(text), nil }
		c, err := HandlerConfig{MaxBody: maxBody, Rules: Rules{Auth: &BasicAuth{File: "users"}},
			Routes: []Route{{Name: "r", Paths: []string{"/r"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: &BasicAuth{Realm: "r", File: "users"}}}}}}.ReadFiles(read)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, s := range reloadSites(t, webBackend(t, func(w http.ResponseWriter, _ *http.Request) {})) {
		t.Run(s.name, func(t *testing.T) {
			site := s.site()
			reload := func(c HandlerConfig) {
				if err := s.reconfigure(c); err != nil {
					t.Fatal(err)
				}
			}
			ask := func(path string) string { return statusOf(site.askRaw(t, asked(path, basic("bcrypt", "secret")))) }
			reload(cfg(text, 0))
			if got := ask("/"); got != "200" {
				t.Fatal(got)
			}
			release := holdLogins(t)
			for i := range 3 {
				reload(cfg(text, int64(i)))
				for _, path := range []string{"/", "/r"} {
					if got := ask(path); got != "200" {
						t.Fatalf("reload %d, %s: %s", i+1, path, got)
					}
				}
			}
			reload(cfg(text+"# changed", 0))
			answer := make(chan string, 1)
			go func() { answer <- ask("/") }()
			awaitLogins(t, 1)
			release()
			if got := <-answer; got != "200" {
				t.Errorf("verified again: %s", got)
			}
		})
	}
}
