package daemon

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// counters are all that a daemon has counted of its check one and its service web.
func counters(d *Daemon) map[string]uint64 {
	v, all := d.View(), map[string]uint64{}
	for _, c := range v.Checks {
		if c.Config.Name != "one" {
			continue
		}
		s := c.Status()
		all["check probes"], all["check failed"], all["check changes"] = s.Probes, s.Failed, s.Changes
	}
	for _, w := range v.Services {
		if w.Config.Name != "web" {
			continue
		}
		s, tally := w.Stats(), w.Tally()
		all["accepted"], all["received"], all["sent"], all["failed"] = s.Accepted, s.Received, s.Sent, s.Failed
		all["2xx"], all["none"] = tally.Statuses[2], tally.Statuses[0]
		for _, n := range tally.Durations {
			all["ended"] += n
		}
		all["took"] = uint64(tally.Sum)
		for _, p := range w.Pools {
			for _, b := range p.Status().Backends {
				all[b.Name+" picks"], all[b.Name+" connects"], all[b.Name+" received"] = b.Picks, b.Connects, b.Received
			}
		}
	}
	return all
}

// TestCountersSurviveReloads: whatever a reload replaces, ends or brings back, no counter
// falls, and what is counted afterwards is added.
func TestCountersSurviveReloads(t *testing.T) {
	a, b, port, other := webServer(t, "a"), webServer(t, "b"), freePort(t), freePort(t)
	config := func(checks, service string) string {
		return fmt.Sprintf(`checks: {%s}
services: [%s]`, checks, service)
	}
	check := func(rest string) string {
		return fmt.Sprintf(`one: {type: tcp, address: "%s", interval: 1h%s}`, a, rest)
	}
	service := func(mode, rest string, backends ...string) string {
		return fmt.Sprintf(`{name: web, listen: "127.0.0.1:%s", mode: %s, backends: ["%s"]%s}`, port, mode, strings.Join(backends, `", "`), rest)
	}
	moved := strings.Replace(service("http", "", a, b), port, other, 1)
	d := startDaemon(t, config(check(""), service("http", "", a, b)))
	at := port
	use := func() {
		t.Helper()
		c, err := net.Dial("tcp", "127.0.0.1:"+at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if _, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	// useBoth uses each backend, and looks at no total: the daemon must look in time.
	useBoth := func() {
		t.Helper()
		pool := d.View().Services[0].service.upstreams[""].pool
		state := func() (picks uint64, active int64) {
			for _, b := range pool.Status().Backends {
				picks, active = picks+b.Picks, active+b.Active
			}
			return picks, active
		}
		before, _ := state()
		use()
		use()
		until(t, "both are over", func() bool { picks, active := state(); return picks == before+2 && active == 0 })
	}
	picks := func(c map[string]uint64) uint64 { return c[a+" picks"] + c[b+" picks"] }
	useBoth()
	until(t, "the check has run", func() bool { return counters(d)["check probes"] == 1 })
	probes := uint64(1)
	service2 := fmt.Sprintf(`{name: rest, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"]}`, freePort(t), a)
	away := config(strings.Replace(check(", fall: 5"), "one", "two", 1), service2)
	cases := []struct {
		name   string
		texts  []string // reloaded one after the other
		probed bool     // the check begins anew, with a probe
	}{
		{"nothing changes", []string{config(check(""), service("http", "", a, b))}, false},
		{"a setting", []string{config(check(""), service("http", ", tries: 2", a, b))}, false},
		{"an access log", []string{config(check(""), service("http", ", access_log: true", a, b))}, false},
		{"another check", []string{config(check(", fall: 5"), service("http", "", a, b))}, true},
		{"another mode", []string{config(check(", fall: 5"), service("tcp", "", a, b))}, false},
		{"the mode of before", []string{config(check(", fall: 5"), service("http", "", a, b))}, false},
		{"without a backend", []string{config(check(", fall: 5"), service("http", "", a))}, false},
		{"the backend is back", []string{config(check(", fall: 5"), service("http", "", a, b))}, false},
		{"the backends change places", []string{config(check(", fall: 5"), service("http", "", b, a))}, false},
		{"another port", []string{config(check(", fall: 5"), moved)}, false},
		{"the port of before", []string{config(check(", fall: 5"), service("http", "", a, b))}, false},
		{"the service and the check go and come back", []string{away, config(check(", fall: 5"), service("http", "", a, b))}, true},
		{"with another mode at once", []string{away, config(check(", fall: 5"), service("tcp", "", a, b)), config(check(", fall: 5"), service("http", "", a, b))}, true},
	}
	for _, tc := range cases {
		before := counters(d)
		useBoth()
		for _, text := range tc.texts {
			mustReload(t, d, text)
		}
		at = port
		if strings.Contains(tc.texts[0], other) {
			at = other
		}
		if tc.probed {
			probes++
		}
		until(t, tc.name+": the check has run", func() bool { return counters(d)["check probes"] == probes })
		until(t, tc.name+": the requests have ended", func() bool { return counters(d)["ended"] == before["ended"]+2 })
		after := counters(d)
		for name, n := range before {
			if got, there := after[name]; there && got < n {
				t.Errorf("%s: %s is %d, was %d", tc.name, name, got, n)
			}
		}
		if after["accepted"] != before["accepted"]+2 || after["sent"] <= before["sent"] || after["took"] <= before["took"] {
			t.Errorf("%s: of two requests it has not all:\n%s", tc.name, cmp.Diff(before, after))
		}
		if both := before[b+" picks"] > 0 && after[b+" picks"] > 0; both && picks(after) != picks(before)+2 {
			t.Errorf("%s: of two picks it has not all:\n%s", tc.name, cmp.Diff(before, after))
		}
	}
	now := counters(d)
	if total := uint64(2*len(cases) + 2); now["2xx"]+now["none"] != total || picks(now) != total {
		t.Errorf("in the end not %d requests are counted: %v", total, now)
	}
}
