package node

import (
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

const routerFile = `
groups: [{name: G1, routers: [VI_1]}]
vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    version: 2
    interval: 1s
    priority: PRIORITY
    auth: {type: pass, secret: SECRET}
    addresses: [192.168.31.250/24]
    excluded: [192.168.31.251/24]
`

// TestStatusOfRouters: two hosts, and a second process on one of them: everything that is
// known of a router is in the status.
func TestStatusOfRouters(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	one, two := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")
	file := func(priority, secret string) string {
		return strings.NewReplacer("PRIORITY", priority, "SECRET", secret).Replace(routerFile)
	}
	active := startNode(t, file("120", "d0cker"), one.Do)
	state := func(n *testNode) string {
		if s := n.Status(); len(s.Routers) == 1 {
			return s.Routers[0].State
		}
		return ""
	}
	lab.Until(t, bound, "LB-01 is Active", func() bool { return state(active) == "Active" && active.Status().Routers[0].Held })
	backup := startNode(t, file("110", "d0cker"), two.Do)
	lab.Until(t, bound, "LB-02 hears LB-01", func() bool { return state(backup) == "Backup" && len(backup.Status().Routers[0].Peers) == 1 })
	second := startNode(t, file("120", "d0cker"), one.Do)
	lab.Until(t, bound, "the second process knows why it does not run", func() bool {
		s := second.Status()
		return len(s.Routers) == 1 && strings.Contains(s.Routers[0].NotRunning, "VRID 51 (IPv4) is taken by")
	})

	s := active.Status()
	r := s.Routers[0]
	if r.Name != "VI_1" || r.Group != "G1" || r.Interface != "eth0" || r.VRID != 51 || r.Version != 2 || r.Auth != "pass" || r.Source != "192.168.31.240" ||
		r.Priority != 120 || r.Configured != 120 || !r.Preempt || r.Interval.String() != "1s" || r.Own.String() != "1s" {
		t.Errorf("the router is %+v", r)
	}
	if r.Cause != "no advertisement in time" || r.Since.IsZero() || r.Causes["start"] != 1 || r.Transitions != 2 || r.Sent == 0 || r.NotRunning != "" {
		t.Errorf("the router is %+v", r)
	}
	if len(r.Addresses) != 2 || r.Addresses[0].Address != "192.168.31.250/24" || r.Addresses[0].Excluded || !r.Addresses[1].Excluded {
		t.Errorf("the addresses are %+v", r.Addresses)
	}
	if len(s.Groups) != 1 || s.Groups[0].State != "MASTER" {
		t.Errorf("the groups are %+v", s.Groups)
	}
	p := backup.Status().Routers[0].Peers[0]
	if p.Address != "192.168.31.240" || p.Priority != 120 || p.Version != 2 || p.LastHeard.IsZero() {
		t.Errorf("LB-02 hears %+v", p)
	}

	// The password differs from now on.
	backup.write(file("110", "docker"))
	if err := two.Do(func() error { _, err := backup.reload(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "LB-02 is Active as well", func() bool { return state(backup) == "Active" })
	drops := backup.Status().Routers[0].Drops
	if len(drops) != 1 || drops[0].Reason != "auth" || drops[0].From != "192.168.31.240" || drops[0].Count == 0 || drops[0].Last.IsZero() ||
		!strings.HasPrefix(drops[0].Text, "authentication failed") {
		t.Errorf("LB-02 has discarded %+v", drops)
	}
	backup.has(t, report.KindDiscard, "discarded", "Router:VI_1")
	backup.has(t, report.KindTransition, "state", "Router:VI_1", "Cause:no advertisement in time", "{Key:to Value:Active}")
}
