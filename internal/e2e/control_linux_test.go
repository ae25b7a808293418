package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// steered is a havip that the commands reach, and whose state outlives it.
type steered struct {
	*reloader
	folder string
}

// startSteered runs havip on a host. text has the rest of the file.
func startSteered(t *testing.T, h *lab.Host, text string) *steered {
	t.Helper()
	s := &steered{folder: t.TempDir()}
	s.reloader = startReloader(t, h, s.config(text))
	return s
}

// config is a whole file.
func (s *steered) config(text string) string {
	return fmt.Sprintf("admin: {socket: %q, state: %q}\n%s", filepath.Join(s.folder, "sock"), filepath.Join(s.folder, "state"), text)
}

// begin runs havip again.
func (s *steered) begin() {
	s.t.Helper()
	s.cmd = s.host.Command(havip(s.t), "run", "-c", s.file)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// ask runs a command, and returns what it prints.
func (s *steered) ask(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, havip(s.t), args...)
	cmd.Env = append(os.Environ(), "HAVIP_SOCKET="+filepath.Join(s.folder, "sock"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// says runs a command that must succeed, and print something.
func (s *steered) says(want string, args ...string) {
	s.t.Helper()
	if out, err := s.ask(args...); err != nil || !strings.Contains(out, want) {
		s.t.Errorf("havip %s: %v: %s; want %s", strings.Join(args, " "), err, out, want)
	}
}

// refuses runs a command that must fail, and say why.
func (s *steered) refuses(want string, args ...string) {
	s.t.Helper()
	if out, err := s.ask(args...); err == nil || !strings.Contains(out, want) {
		s.t.Errorf("havip %s: %v: %s; want a failure: %s", strings.Join(args, " "), err, out, want)
	}
}

// status waits for what havip says of itself to be as it should.
func (s *steered) status(what string, ok func(report.Status) bool) {
	s.t.Helper()
	lab.Until(s.t, 30*time.Second, what, func() bool {
		var status report.Status
		out, _ := s.ask("status", "-o", "json") // the exit code says whether all is well
		return json.Unmarshal([]byte(out), &status) == nil && ok(status)
	})
}

// isAway reports whether a router is kept out of the election by a maintenance.
func isAway(name string) func(report.Status) bool {
	return func(s report.Status) bool {
		for _, r := range s.Routers {
			if r.Name == name {
				return r.State == "Initialize" && len(r.Faults) == 1 && r.Faults[0] == "maintenance" && s.Node.Maintenance != nil && s.Node.Maintenance.Lasting
			}
		}
		return false
	}
}

// startTwo are two nodes with the address of which the first one has it.
func startTwo(t *testing.T, more string) (one, two *steered, text func(priority int, more string) string) {
	t.Helper()
	l := lab.New(t)
	text = func(priority int, more string) string {
		return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, interval: 500ms, priority: %d, addresses: [192.168.31.250/24]}\n%s", priority, more)
	}
	one = startSteered(t, l.MustHost("lb01", "192.168.31.240/24"), text(120, more))
	two = startSteered(t, l.MustHost("lb02", "192.168.31.241/24"), text(110, more))
	lab.Until(t, 30*time.Second, "LB-01 has the address", func() bool { return one.host.Holds(vip) && !two.host.Holds(vip) })
	return one, two, text
}

// TestMaintenance: a node in maintenance hands its address over and stays away, also after
// a reload, after kill -9 and after a restart, until that is ended.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	one, two, text := startTwo(t, "")
	one.says("maintenance is on", "maintenance", "on", "--reason", "new disks")
	moved := func(from, to *steered) func() bool {
		return func() bool { return to.host.Holds(vip) && !from.host.Holds(vip) }
	}
	lab.Until(t, 30*time.Second, "LB-02 has the address", moved(one, two))
	one.status("LB-01 says why it is away", isAway("VI_1"))
	seen := watchDeletions(t, one.host) // and additions

	one.must(one.config(text(125, "  - {name: VI_9, interface: eth0, vrid: 59, interval: 500ms, addresses: [192.168.31.9/24]}\n")))
	one.status("a router that began meanwhile is away, too", isAway("VI_9"))
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"kill -9", func() { one.cmd.Kill() }},
		{"a restart", func() {
			if err := one.cmd.Stop(30 * time.Second); err != nil {
				t.Error(err)
			}
		}},
	} {
		end.do()
		one.begin()
		one.status("LB-01 is away after "+end.name, isAway("VI_1"))
		if !strings.Contains(one.cmd.Output(), "maintenance goes on") || !strings.Contains(one.cmd.Output(), "new disks") {
			t.Errorf("after %s the log does not say so:\n%s", end.name, one.cmd.Output())
		}
	}
	nine := netip.MustParseAddr("192.168.31.9")
	if seen.put(vip) || seen.put(nine) || !moved(one, two)() {
		t.Errorf("during the maintenance LB-01 took an address: %v, %v; LB-02 has it: %v", seen.put(vip), seen.put(nine), two.host.Holds(vip))
	}

	two.says("192.168.31.240 of VI_1 left ", "maintenance", "on")
	lab.Until(t, 30*time.Second, "nobody has the address", func() bool { return !two.host.Holds(vip) })
	two.says("", "maintenance", "off")
	lab.Until(t, 30*time.Second, "LB-02 has it again", moved(one, two))
	one.says("", "maintenance", "off")
	lab.Until(t, 30*time.Second, "LB-01 takes part again, and has the better claim", moved(two, one))
	if entries, err := os.ReadDir(filepath.Join(one.folder, "state")); err != nil || len(entries) != 0 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

// TestPriorityByCommand: another priority moves the address, and back; a router that resigns
// hands it over.
func TestPriorityByCommand(t *testing.T) {
	t.Parallel()
	one, two, text := startTwo(t, "")
	has := func(what string, s, other *steered) {
		t.Helper()
		lab.Until(t, 30*time.Second, what, func() bool { return s.host.Holds(vip) && !other.host.Holds(vip) })
	}
	one.says("", "priority", "VI_1", "50")
	has("LB-02 has the better claim", two, one)
	one.must(one.config(text(120, "services: [{name: w, listen: \":8080\", backends: [\"192.168.31.9:80\"]}]\n")))
	one.status("a reload of something else keeps the priority", func(s report.Status) bool {
		return s.Routers[0].Priority == 50 && s.Routers[0].Configured == 120 && len(s.Node.Changes) == 1 && s.Node.Changes[0].Value == "50"
	})
	one.refuses("it is Backup, and only an Active router can hand over", "resign", "VI_1")
	one.must(one.config(text(130, "")))
	has("the file's new priority counts", one, two)
	one.status("nothing is left of the command", func(s report.Status) bool { return s.Routers[0].Priority == 130 && len(s.Node.Changes) == 0 })
	one.says("", "resign", "VI_1")
	has("LB-02 takes over from a router that resigns", two, one)
	two.says("", "resign", "VI_1")
	has("and back", one, two)
}

// TestDrainByCommand: a backend that drains finishes its requests and gets no others, and is
// used again when it is enabled.
func TestDrainByCommand(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	held, release := make(chan struct{}, 1), make(chan struct{})
	var counts [2]atomic.Int32
	var addresses []string
	for i := range counts {
		ln, err := h.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 8081+i))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				held <- struct{}{}
				<-release
			}
			counts[i].Add(1)
			fmt.Fprint(w, i)
		})}
		go s.Serve(ln)
		t.Cleanup(func() { s.Close() })
		addresses = append(addresses, ln.Addr().String())
	}
	s := startSteered(t, h, fmt.Sprintf("services: [{name: web, listen: \":8080\", backends: [{name: a, address: %q}, {name: b, address: %q, drain: true}]}]\n", addresses[0], addresses[1]))
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return h.DialContext(ctx, "tcp", "127.0.0.1:8080")
	}}}
	get := func(path string) string {
		answer, err := client.Get("http://web.test" + path)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err.Error()
		}
		return string(body)
	}
	lab.Until(t, 30*time.Second, "the service serves", func() bool { return get("/") == "0" })
	slow := make(chan string, 1)
	go func() { slow <- get("/slow") }()
	<-held
	s.says("b of web gets connections again", "enable", "web", "b")
	s.says("1 go on", "drain", "web", "a")
	before := counts[0].Load()
	for range 10 {
		if got := get("/"); got != "1" {
			t.Errorf("while a drains: %s, want 1", got)
		}
	}
	s.status("both are said to be changed", func(r report.Status) bool { return len(r.Node.Changes) == 2 })
	close(release)
	if got := <-slow; got != "0" || counts[0].Load() != before+1 {
		t.Errorf("the request under way: %s, and %d others; want 0 and none", got, counts[0].Load()-before-1)
	}
	s.says("", "enable", "web", "a")
	lab.Until(t, 30*time.Second, "a is used again", func() bool { return get("/") == "0" })
	s.refuses(`there are a, b`, "drain", "web", "c")

	release = make(chan struct{})
	defer close(release)
	go func() { slow <- get("/slow") }()
	<-held
	s.says("those that it had are cut", "disable", "web", "a")
	s.says("those that it had are cut", "disable", "web", "b")
	if got := <-slow; len(got) == 1 {
		t.Errorf("a request to a backend that was disabled: %s", got)
	}
}
