package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestReloadRotatesKeys: keys and passwords change by reload, on one node after
// the other, and no address moves.
func TestReloadRotatesKeys(t *testing.T) {
	t.Parallel()
	hmac := func(active int, ids ...int) string {
		var keys []string
		for _, id := range ids {
			keys = append(keys, fmt.Sprintf("{id: %d, secret: %q}", id, strings.Repeat(fmt.Sprint(id), 32)))
		}
		return fmt.Sprintf("{type: hmac, active_key: %d, keys: [%s]}", active, strings.Join(keys, ", "))
	}
	// A password cannot be changed on both nodes at once: meanwhile LB-02 does
	// not understand LB-01, for much less than the 30 s that it waits.
	const patient = "version: 2, interval: 10s"
	for _, tc := range []struct {
		name, params string
		protocol     byte
		auth         []string
	}{
		{"hmac", "interval: 500ms, lease: 20s", 112, []string{hmac(1, 1), hmac(1, 1, 2), hmac(2, 1, 2), hmac(2, 2)}},
		{"pass", patient, 112, []string{"{type: pass, secret: one}", "{type: pass, secret: two}"}},
		{"ah", patient, 51, []string{"{type: ah, secret: one}", "{type: ah, secret: two}"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			var hosts [2]*lab.Host
			var nodes [2]*reloader
			// Priority 255 is Active at once, whatever the interval.
			config := func(i int, auth string) string {
				return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, %s, addresses: [192.168.31.250/24], auth: %s}\n",
					[]int{255, 110}[i], tc.params, auth)
			}
			lan, err := l.Segment("lan")
			if err != nil {
				t.Fatal(err)
			}
			wire, err := lan.Capture(lab.Protocol(tc.protocol))
			if err != nil {
				t.Fatal(err)
			}
			for i := range hosts {
				hosts[1-i] = l.MustHost(fmt.Sprintf("lb%02d", 2-i), fmt.Sprintf("192.168.31.%d/24", 241-i))
				nodes[1-i] = startReloader(t, hosts[1-i], config(1-i, tc.auth[0]))
				lab.Until(t, 30*time.Second, "a router begins", func() bool { return strings.Contains(nodes[1-i].cmd.Output(), "msg=state") })
			}
			lab.Until(t, 30*time.Second, "LB-01 has the address", func() bool { return hosts[0].Holds(vip) })
			// A node that begins late on a busy machine finds the other one Active.
			const change = "msg=state "
			lab.Until(t, 30*time.Second, "LB-02 is Backup", func() bool {
				out := nodes[1].cmd.Output()
				return strings.Contains(out[strings.LastIndex(out, change):], "to=Backup")
			})
			var before [2]int
			for i, n := range nodes {
				before[i] = strings.Count(n.cmd.Output(), change)
			}
			gone := watchDeletions(t, hosts[0])
			advertised := func() {
				t.Helper()
				n := len(wire.Packets())
				lab.Until(t, 60*time.Second, "another advertisement", func() bool { return len(wire.Packets()) > n })
			}
			for _, auth := range tc.auth[1:] {
				for i, n := range nodes {
					n.must(config(i, auth))
					if tc.name == "hmac" {
						advertised()
					}
				}
				advertised()
			}
			for i, n := range nodes {
				out := n.cmd.Output()
				if got := strings.Count(out, change) - before[i]; got != 0 {
					t.Errorf("LB-%02d changed its state %d times, want never:\n%s", i+1, got, out)
				}
				if tc.name == "hmac" && strings.Contains(out, "msg=discarded") {
					t.Errorf("LB-%02d did not understand the other one:\n%s", i+1, out)
				}
			}
			if !hosts[0].Holds(vip) || hosts[1].Holds(vip) || gone.of(vip) > 0 {
				t.Error("the address has moved")
			}
			if frames := wire.Packets(); tc.name == "hmac" {
				_, _, _, b, _ := frames[len(frames)-1].IP()
				if trailer := b[len(b)-28:]; !bytes.Equal(trailer[:2], []byte{1, 2}) {
					t.Errorf("the last advertisement is signed with %x, want key 2", trailer[:2])
				}
			}
			// LB-02 knows the new one: it believes LB-01 that it leaves.
			if err := nodes[0].cmd.Stop(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			lab.Until(t, 30*time.Second, "LB-02 takes over", func() bool { return hosts[1].Holds(vip) })
			lab.Until(t, 30*time.Second, "LB-02 heard that LB-01 left", func() bool {
				return strings.Contains(nodes[1].cmd.Output(), `cause="active router left"`)
			})
		})
	}
}
