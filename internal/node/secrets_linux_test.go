package node

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// canary is in every secret of the files below, and must be in nothing that anybody can read.
const canary = "cAnArY"

// canaries is a file whose every secret has the canary and a number, and in which all that
// could tell of one goes wrong: nobody listens where checks and alarms go. An argument of
// a program counts, too.
const canaries = `
admin: {socket: SOCKET, listen: "127.0.0.1:9650", state: off, token: cAnArYcAnArYcAnArY#}
log: {level: debug}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, version: 2, auth: {type: pass, secret: cAnArY#}, addresses: [192.168.31.250/24]}
  - {name: VI_2, interface: eth0, vrid: 52, auth: {type: hmac, keys: [{id: 1, secret: cAnArYcAnArYcAnArYcAnArYcAnArYcAnArY#}]}, addresses: [192.168.31.251/24]}
  - {name: VI_3, interface: eth0, vrid: 53, version: 2, auth: {type: ah, secret: cAnArY#}, addresses: [192.168.31.252/24]}
checks:
  url: {type: http, url: "http://127.0.0.1:1/health?token=cAnArY#", headers: {Authorization: Bearer cAnArY#, X-Key: cAnArY#}, interval: 100ms, timeout: 50ms}
  send: {type: tcp, address: "127.0.0.1:1", send: "AUTH cAnArY#", interval: 100ms, timeout: 50ms}
  run: {type: exec, command: [/bin/false, --password=cAnArY#], environment: {PASSWORD: cAnArY#}, interval: 100ms, timeout: 50ms}
services:
  - name: web
    listen: "127.0.0.1:8080"
    mode: http
    http: {request_headers: {X-Secret: cAnArY#}, response_headers: {X-Secret: cAnArY#}}
    check: {type: http, path: "/health?key=cAnArY#", headers: {Cookie: cAnArY#}, interval: 100ms, timeout: 50ms, fall: 1}
    backends: ["127.0.0.1:2"]
alarms:
  - {name: hook, webhook: "http://user:cAnArY#@127.0.0.1:1/cAnArY#?key=cAnArY#", token: cAnArY#, on: [transition, split, pool, certificate, reload]}
  - {name: proxied, webhook: "http://hooks.example.org/cAnArY#", proxy: "http://user:cAnArY#@127.0.0.1:1"}
  - {name: mail, email: {server: "127.0.0.1:1", from: a@example.org, to: [b@example.org], user: havip, password: cAnArY#}}
`

// TestNoSecretGetsOut: no answer of any route and no line of the log at level debug has a
// secret of the file, be it that of before, of now, or of a file that is only tried. The path that a check asks
// for is none: it is what an operator looks for.
func TestNoSecretGetsOut(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	one, two := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")
	socket := filepath.Join(socketFolder(t), "s")
	file := func(number string) string {
		return strings.NewReplacer("#", number, "SOCKET", socket).Replace(canaries)
	}
	n := startNode(t, file("1"), one.Do)
	// A peer whose secrets are others, so that there is something to say about them.
	peer := strings.NewReplacer("SOCKET", "off", "listen: \"127.0.0.1:9650\", ", "", "token: cAnArYcAnArYcAnArY2", "group: \"0\"").Replace(strings.NewReplacer("#", "2", "SOCKET", "off").Replace(canaries))
	other := startNode(t, peer, two.Do)

	read := func(path string) {
		t.Helper()
		r, err := http.NewRequest("GET", "http://havip"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := asking(socket).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != 200 {
			t.Errorf("%s: %d %s, %v", path, answer.StatusCode, text, err)
		}
		silent(t, path, fmt.Sprint(answer.Header, string(text)))
	}
	steer := func(method, path, body string, want int) string {
		t.Helper()
		status, text := ask(t, socket, method, path, body)
		if status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
		silent(t, path, text)
		return text
	}
	lab.Until(t, bound, "checks and advertisements have failed", func() bool {
		s := n.Status()
		if len(s.Routers) != 3 || len(s.Checks) != 3 {
			return false
		}
		for _, c := range s.Checks {
			if c.Error == "" {
				return false
			}
		}
		return len(s.Routers[0].Drops) > 0 && len(s.Routers[1].Drops) > 0 && s.Services[0].Pools[0].Backends[0].Error != ""
	})
	everything := func() {
		t.Helper()
		for _, path := range []string{
			"/api/v1/status", "/api/v1/events", "/api/v1/access", "/api/v1/openapi.json", "/api/v1/page", "/metrics", "/", "/healthz",
			"/api/v1/explain/192.168.31.250", "/api/v1/explain/192.168.31.251", "/api/v1/explain/192.168.31.252",
		} {
			read(path)
		}
	}
	everything()
	for _, name := range []string{"hook", "proxied", "mail"} {
		steer("POST", "/api/v1/alarms/"+name+"/test", "", 502)
	}
	n.write(file("3"))
	if text := steer("POST", "/api/v1/reload", `{"dry_run": true}`, 200); !strings.Contains(text, "secret") || !strings.Contains(text, "webhook") {
		t.Errorf("the differences are %s", text)
	}
	for _, wrong := range []string{
		strings.Replace(file("4"), "cAnArY4}]}", "cAnArY4, ", 1), // no YAML
		strings.Replace(file("4"), "vrid: 51", "vrid: 0", 1),
		strings.ReplaceAll(file("4"), "secret: cAnArY", "secret: cAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArYcAnArY"),
		strings.ReplaceAll(file("4"), "http://", "ftp://"),
		strings.Replace(file("4"), "token: cAnArY", "token: ü cAnArY", 1),
	} {
		n.write(wrong)
		steer("POST", "/api/v1/reload", "", 409)
	}
	n.write(file("3"))
	steer("POST", "/api/v1/reload", "", 200)
	everything()
	silent(t, "the log", n.logged.String())
	silent(t, "the log of the peer", other.logged.String())
}

// silent fails if a text has the canary.
func silent(t *testing.T, what, text string) {
	t.Helper()
	if at := strings.Index(strings.ToLower(text), strings.ToLower(canary)); at >= 0 {
		t.Errorf("%s tells a secret: ...%s", what, text[max(0, at-300):min(len(text), at+100)])
	}
}
