package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

// tracking is one way to follow the balancer.
type tracking struct {
	name  string
	check func(dir string) string // dir is the node's
	track string
	// notice is for how long the failure may go unnoticed.
	notice time.Duration
	fail   func(dir string, n *scenario.Node) error
}

func kill(_ string, n *scenario.Node) error {
	n.KillBalancer()
	return nil
}

// trackings at a check interval of one second, and a timeout that a busy machine
// does not exceed. A file and a process are noticed by an event, whatever the
// interval.
var trackings = []tracking{
	{"exec", func(string) string {
		return `{type: exec, command: [/bin/bash, -c, "</dev/tcp/127.0.0.1/8080"], timeout: 1s, rise: 1}`
	}, "{check: balancer}", 3 * time.Second, kill},
	{"http", func(string) string {
		return `{type: http, url: "http://127.0.0.1:8080/", timeout: 1s, rise: 1}`
	}, "{check: balancer}", 3 * time.Second, kill},
	{"process", func(dir string) string {
		return fmt.Sprintf(`{type: process, process: nginx, pid_file: %s/balancer/nginx.pid, rise: 1, fall: 1}`, dir)
	}, "{check: balancer}", 100 * time.Millisecond, kill},
	{"file", func(dir string) string {
		return fmt.Sprintf(`{type: file, file: %s/maintenance, absent: true, rise: 1, fall: 1}`, dir)
	}, "{check: balancer}", 100 * time.Millisecond, func(dir string, _ *scenario.Node) error {
		return os.WriteFile(filepath.Join(dir, "maintenance"), nil, 0o600)
	}},
	{"exec with a weight, mode resign", func(string) string {
		return `{type: exec, command: [/bin/bash, -c, "</dev/tcp/127.0.0.1/8080"], timeout: 1s, rise: 1}`
	}, "{check: balancer, weight: -15, mode: resign}", 3 * time.Second, kill},
}

// havipTracking is the VRRP half of the reference scenario with another check.
func havipTracking(exe string, tr tracking) scenario.Program {
	return func(n *scenario.Node, dir string) ([]string, error) {
		var b bytes.Buffer
		fmt.Fprintf(&b, `checks:
  balancer: %s
vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    priority: %d
    version: 2
    preempt: false
    peers: [%v]
    auth: {type: pass, secret: d0cker}
    addresses: [%v]
    track: [%s]
`, tr.check(filepath.Dir(dir)), n.Priority, n.Peer, scenario.VIP, tr.track)
		file := filepath.Join(dir, "havip.yaml")
		return []string{exe, "run", "-c", file}, os.WriteFile(file, b.Bytes(), 0o600)
	}
}

// TestTracking is acceptance run 4 for each kind of check: what fails on the
// node that holds the address moves it within the time that the check takes and
// the other node's skew, not three intervals more.
func TestTracking(t *testing.T) {
	lab.Need(t, "nginx", "bash")
	t.Parallel()
	exe := havip(t)
	for _, tr := range trackings {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			p := scenario.Params{Interval: time.Second, Version: 2}
			dir := t.TempDir()
			ctx := t.Context()
			s := startScenario(t, dir, scenario.Config{
				Params:   p,
				VRRP:     [2]scenario.Program{havipTracking(exe, tr), havipTracking(exe, tr)},
				Balancer: [2]scenario.Program{nginxBalancer, nginxBalancer},
				Private:  true,
			})
			failing, next := s.LB[0], s.LB[1]
			lab.Until(t, 30*time.Second, "LB-02 listens", func() bool { return strings.Contains(next.Output(), "to=Backup") })
			skew := p.Down(next.Priority) - 3*p.Interval
			res := s.Do(ctx, scenario.Run{
				Title: "the balancer on LB-01 fails its check: LB-02 takes the address over", Expect: 1, Watch: 1,
				Allowed: func(scenario.Params) time.Duration { return tr.notice + skew },
				Do:      func(*scenario.Scenario) error { return tr.fail(filepath.Join(dir, "lb01"), failing) },
			})
			t.Logf("%s: longest gap %v, check and skew allow %v", tr.name, res.Outage.Round(time.Millisecond), res.Allowed.Round(time.Millisecond))
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			// Three intervals later it would be that of a peer that died.
			if res.Outage > res.Allowed+2*p.Interval {
				t.Errorf("the move took %v", res.Outage)
			}
		})
	}
}

// keepalivedWeighted is the VRRP half as Keepalived's users write it, with a
// weight and nopreempt, but without the trick of killing the daemon.
func keepalivedWeighted(n *scenario.Node, dir string) ([]string, error) {
	argv, err := keepalived(n, dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "keepalived.conf")
	conf, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return argv, os.WriteFile(file, bytes.Replace(conf, []byte("\tfall 2\n"), []byte("\tfall 2\n\tweight -15\n"), 1), 0o600)
}

// TestWeightWithoutPreemption: with Keepalived, and with havip's mode priority,
// of which validate warns, the address does not move, although the other node
// has the higher priority.
func TestWeightWithoutPreemption(t *testing.T) {
	lab.Need(t, "keepalived", "nginx", "bash")
	t.Parallel()
	weighted := trackings[0]
	weighted.track = "{check: balancer, weight: -15}"
	for name, tc := range map[string]struct {
		program scenario.Program
		noticed string // what it says of the failure
	}{
		"keepalived": {keepalivedWeighted, "effective priority from 120 to 105"},
		"havip":      {havipTracking(havip(t), weighted), "check is down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "keepalived" {
				lab.NeedRoot(t)
			}
			p := scenario.Params{Interval: time.Second, Version: 2}
			s := startScenario(t, t.TempDir(), scenario.Config{
				Params:   p,
				VRRP:     [2]scenario.Program{tc.program, tc.program},
				Balancer: [2]scenario.Program{nginxBalancer, nginxBalancer},
				Private:  true,
			})
			lab.Until(t, 30*time.Second, "LB-02 listens", func() bool {
				out := s.LB[1].Output()
				return strings.Contains(out, "to=Backup") || strings.Contains(out, "Entering BACKUP STATE")
			})
			s.LB[0].KillBalancer()
			lab.Until(t, 30*time.Second, "it notices the failure", func() bool { return strings.Contains(s.LB[0].Output(), tc.noticed) })
			for end := time.Now().Add(2 * p.Down(s.LB[1].Priority)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if h := s.Holders(); len(h) != 1 || h[0] != s.LB[0] {
					t.Fatalf("the address moved: %d holders", len(h))
				}
			}
			t.Logf("%s: priority 105 against 110, and the address stays for %v", name, 2*p.Down(s.LB[1].Priority).Round(time.Millisecond))
		})
	}
}

// TestFlapping: a check that flaps moves the address no faster than its
// hold-down says.
func TestFlapping(t *testing.T) {
	t.Parallel()
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	flag := filepath.Join(t.TempDir(), "maintenance")
	const holdDown = 2 * time.Second
	startReloader(t, h, fmt.Sprintf(`checks:
  flag: {type: file, file: %s, absent: true, interval: 50ms, rise: 1, fall: 1, hold_down: %v}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, priority: 255, lease: 20s, addresses: [192.168.31.250/24], track: [{check: flag}]}
`, flag, holdDown))
	lab.Until(t, 30*time.Second, "the only router becomes Active", func() bool { return h.Holds(vip) })
	gone := watchDeletions(t, h)
	begin := time.Now()
	for flips := 0; time.Since(begin) < 3*holdDown; flips++ {
		var err error
		if flips%2 == 0 {
			err = os.WriteFile(flag, nil, 0o600)
		} else {
			err = os.Remove(flag)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the pace of the flapping
	}
	most := int(time.Since(begin)/holdDown) + 1
	if n := gone.of(vip); n < 1 || n > most {
		t.Errorf("the address was released %d times in %v, want 1 to %d", n, time.Since(begin), most)
	}
}
