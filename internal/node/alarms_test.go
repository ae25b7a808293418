package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// TestAlarmsFollowReloads: a receiver hears of what happens, and of its end, once; a reload
// repeats nothing, a receiver that it brings hears of what lasts, and what was told of a
// part that it removes ends.
func TestAlarmsFollowReloads(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{} // by path
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n alarm.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range n.Alarms {
			got[r.URL.Path] = append(got[r.URL.Path], string(a.State)+" "+a.Summary)
		}
	}))
	defer server.Close()
	told := func(path string, want ...string) {
		t.Helper()
		lab.Eventually(t, bound, path+" is told", func() error {
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(got[path]) != fmt.Sprint(want) {
				return fmt.Errorf("got %q, want %q", got[path], want)
			}
			return nil
		})
	}
	web := fmt.Sprintf("  - {name: web, listen: %q, backends: [%q], check: {type: tcp, interval: 50ms, fall: 1}}\n", lab.FreeAddress(t), lab.FreeAddress(t))
	shop := strings.Replace(fmt.Sprintf("  - {name: web, listen: %q, backends: [%q], check: {type: tcp, interval: 50ms, fall: 1}}\n", lab.FreeAddress(t), lab.FreeAddress(t)), "web", "shop", 1)
	one := fmt.Sprintf("alarms:\n  - {name: one, webhook: %q, on: [pool, reload]}\n", server.URL+"/one")
	n := startNode(t, "services:\n"+web+shop+one, here)
	lab.Until(t, bound, "both are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got["/one"]) == 2
	})
	mu.Lock()
	for _, s := range got["/one"] {
		if !strings.HasPrefix(s, "raised ") || !strings.HasSuffix(s, ": pool has no working backends") {
			t.Errorf("got %s", s)
		}
	}
	got["/one"] = nil
	mu.Unlock()

	reload := func(file, event string) {
		t.Helper()
		_, last, _ := n.Events().After(0)
		n.write(file)
		n.signals <- syscall.SIGHUP
		lab.Until(t, bound, "it is reloaded", func() bool {
			events, _, _ := n.Events().After(last)
			for _, e := range events {
				if e.Message == event {
					return true
				}
			}
			return false
		})
	}
	reload("services: 7", "reload")
	told("/one", "raised reload: nothing changed: test.yaml:2:11: services: 7: want a list, such as [a, b]")
	two := fmt.Sprintf("  - {name: two, webhook: %q}\n", server.URL+"/two")
	reload("services:\n"+web+one+two, "reloaded")
	told("/one", "raised reload: nothing changed: test.yaml:2:11: services: 7: want a list, such as [a, b]", "resolved pool shop: not configured any more", "resolved reloaded")
	told("/two", "raised web: pool has no working backends")

	if err := n.TestAlarm(t.Context(), "two"); err != nil {
		t.Error(err)
	}
	told("/two", "raised web: pool has no working backends", "news a trial of this receiver: nothing has happened")
	if err := n.TestAlarm(t.Context(), "three"); !errors.Is(err, report.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// TestConfigured: what an event is about, and the configuration does not have any more.
func TestConfigured(t *testing.T) {
	n := &testNode{file: `
checks: {c: {type: tcp, address: "127.0.0.1:1"}}
vrrp: [{name: VI_1, interface: eth0, vrid: 51, addresses: [192.0.2.250], track: [{check: c}]}]
services:
  - {name: web, listen: ":80", backends: ["192.0.2.7:80", {name: app, address: "app.example.org:80"}]}
  - {name: mail, listen: ":993", mode: tcp, routes: [{name: new, server_names: [a.example.org], backends: ["192.0.2.8:993"]}]}
`}
	cfg, err := n.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e    report.Event
		want bool
	}{
		{report.Event{Kind: "reload"}, true},
		{report.Event{Router: "VI_1"}, true},
		{report.Event{Router: "VI_2"}, false},
		{report.Event{Check: "c"}, true},
		{report.Event{Check: "d"}, false},
		{report.Event{Service: "web"}, true},
		{report.Event{Service: "shop"}, false},
		{report.Event{Service: "mail/new"}, true},
		{report.Event{Service: "mail/old"}, false},
		{report.Event{Service: "web", Backend: "192.0.2.7:80"}, true},
		{report.Event{Service: "web", Backend: "192.0.2.9:80"}, false},
		{report.Event{Service: "web", Backend: "app/192.0.2.9:80"}, true},
		{report.Event{Service: "mail/new", Backend: "192.0.2.8:993"}, true},
		{report.Event{Service: "web", Kind: "certificate", Attributes: []report.Attribute{{Key: "file", Value: "/web.pem"}}}, false},
	} {
		if got := configured(cfg, c.e); got != c.want {
			t.Errorf("%+v: %v, want %v", c.e, got, c.want)
		}
	}
}
