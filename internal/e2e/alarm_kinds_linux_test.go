package e2e

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// writeExpiring writes a certificate of ninety days, with its key, that ends after left.
func writeExpiring(t *testing.T, file string, left time.Duration) {
	t.Helper()
	c := labtest.Certificate(nil, func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(left)
		c.NotBefore = c.NotAfter.AddDate(0, 0, -90)
	}, "www.example.org")
	certificate, key := labtest.PEM(c)
	if err := os.WriteFile(file, append(certificate, key...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAlarmKinds: a webhook is told of a split, of a pool whose only backend is down and of a
// certificate near its end, and of the end of each, once: by a daemon to which each of these
// happens.
func TestAlarmKinds(t *testing.T) {
	t.Parallel()
	lab.Need(t, "nft")
	exe := havip(t)
	l := lab.New(t)
	hosts := [2]*lab.Host{l.MustHost("lb01", "192.168.32.240/24"), l.MustHost("lb02", "192.168.32.241/24")}
	box := &alarmInbox{}
	server := &http.Server{Handler: box}
	go server.Serve(listenOn(t, hosts[0], "192.168.32.240:9099"))
	t.Cleanup(func() { server.Close() })
	app := listenOn(t, hosts[1], "192.168.32.241:9000")
	labtest.Serve(t, app, labtest.EchoLines("app"))

	dir := t.TempDir()
	pem := filepath.Join(dir, "web.pem")
	writeExpiring(t, pem, 5*24*time.Hour)
	var nodes [2]*lab.Cmd
	for i, more := range []string{fmt.Sprintf(`services:
  - {name: web, listen: "192.168.32.240:8443", mode: tcp, backends: ["192.168.32.241:9000"], check: {type: tcp, interval: 100ms, fall: 1, rise: 1}, tls: {certificates: [%s]}}
alarms: [{name: ops, webhook: "http://192.168.32.240:9099/"}]
`, pem), ""} {
		file := filepath.Join(dir, fmt.Sprintf("lb%d.yaml", i))
		text := fmt.Sprintf(`admin: {socket: off, state: off}
vrrp: [{name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 100ms, addresses: [192.168.32.250/24]}]
%s`, 120-10*i, more)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes[i] = hosts[i].Command(exe, "run", "-c", file)
		if err := nodes[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	said := func(i int, text string) {
		t.Helper()
		lab.Until(t, 30*time.Second, "the log has "+text, func() bool { return strings.Contains(nodes[i].Output(), text) })
	}
	said(0, "msg=\"addresses acquired\"")
	box.has(t, "certificate web "+pem, alarm.Raised, "certificate ends soon", "in 4 days")

	hear := (&node{host: hosts[1]}).deaf(t)
	box.has(t, "split VI_1", alarm.Raised, "another router is Active as well (192.168.32.241)")
	hear()
	box.has(t, "split VI_1", alarm.Resolved, "split: over (192.168.32.241)")

	app.Close()
	box.has(t, "pool web", alarm.Raised, "web: pool has no working backends")
	labtest.Serve(t, listenOn(t, hosts[1], "192.168.32.241:9000"), labtest.EchoLines("app"))
	box.has(t, "pool web", alarm.Resolved, "web: pool has working backends again")

	writeExpiring(t, pem, 80*24*time.Hour)
	if err := nodes[0].Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	box.has(t, "certificate web "+pem, alarm.Resolved, "certificate is good again")

	for _, n := range nodes {
		if err := n.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	count := map[string]int{}
	for _, a := range box.got {
		count[a.Key+" "+string(a.State)]++
	}
	for _, key := range []string{"split VI_1", "pool web", "certificate web " + pem} {
		for _, state := range []alarm.State{alarm.Raised, alarm.Resolved} {
			if n := count[key+" "+string(state)]; n != 1 {
				t.Errorf("%s is %s %d times, want once: %+v", key, state, n, box.got)
			}
		}
	}
}
