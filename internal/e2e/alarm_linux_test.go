package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// alarmInbox is a webhook that keeps what it is told.
type alarmInbox struct {
	mu  sync.Mutex
	got []alarm.Alarm
}

func (b *alarmInbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n alarm.Notice
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, n.Alarms...)
}

// has waits for an alarm with a key, in a state, whose summary has all of these.
func (b *alarmInbox) has(t *testing.T, key string, state alarm.State, parts ...string) (found alarm.Alarm) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, fmt.Sprint("the webhook is told of ", key, " ", parts), func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, a := range b.got {
			ok := a.Key == key && a.State == state
			for _, part := range parts {
				ok = ok && strings.Contains(a.Summary, part)
			}
			if found = a; ok {
				return nil
			}
		}
		return fmt.Errorf("got %+v", b.got)
	})
	return found
}

// listenOn opens a port on a host.
func listenOn(t *testing.T, h *lab.Host, address string) net.Listener {
	t.Helper()
	var ln net.Listener
	if err := h.Do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ln
}

// TestAlarms: one of two nodes is killed, and the webhook on the other one's host is told of
// it, with its cause. Another receiver, which accepts and never answers, delays neither that
// nor a reload, and the end by no more than two seconds.
func TestAlarms(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	l := lab.New(t)
	hosts := [2]*lab.Host{l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")}
	box := &alarmInbox{}
	server := &http.Server{Handler: box}
	go server.Serve(listenOn(t, hosts[1], "192.168.31.241:9099"))
	t.Cleanup(func() { server.Close() })
	hung := make(chan struct{}, 100)
	labtest.Serve(t, listenOn(t, hosts[1], "192.168.31.241:9098"), func(c net.Conn) {
		hung <- struct{}{}
		io.Copy(io.Discard, c)
	})
	nodes := [2]*lab.Cmd{}
	start := func(i int, priority int, alarms string) (file string) {
		file = filepath.Join(t.TempDir(), "havip.yaml")
		text := fmt.Sprintf(`admin: {socket: off, state: off}
vrrp: [{name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 500ms, addresses: [192.168.31.250/24]}]
%s`, priority, alarms)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes[i] = hosts[i].Command(exe, "run", "-c", file)
		if err := nodes[i].Start(); err != nil {
			t.Fatal(err)
		}
		return file
	}
	logs := func(i int, text string, times int) {
		t.Helper()
		lab.Until(t, 30*time.Second, "the log has "+text, func() bool { return strings.Count(nodes[i].Output(), text) >= times })
	}
	start(0, 120, "")
	logs(0, "msg=\"addresses acquired\"", 1)
	file := start(1, 110, `alarms:
  - {name: hanging, webhook: "http://192.168.31.241:9098/", timeout: 1m}
  - {name: ops, webhook: "http://192.168.31.241:9099/"}
`)
	box.has(t, "transition VI_1", alarm.News, "VI_1 is Backup, was Initialize")
	<-hung // from here on the other receiver is stuck

	if err := nodes[0].Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a := box.has(t, "transition VI_1", alarm.News, "VI_1 is Active, was Backup: active router left, peer 192.168.31.240")
	if e := a.Events[len(a.Events)-1]; a.Kind != "transition" || a.Since.IsZero() || e.Router != "VI_1" || e.Attribute("peer") != "192.168.31.240" {
		t.Errorf("got %+v", a)
	}
	logs(1, "msg=\"addresses acquired\"", 1)

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "110", "115", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	logs(1, "msg=reloaded", 1)
	if out := nodes[1].Output(); strings.Contains(out, "an alarm is given up") {
		t.Errorf("the hanging receiver did not hang:\n%s", out)
	}

	began := time.Now()
	if err := nodes[1].Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	box.has(t, "transition VI_1", alarm.News, "VI_1 is Initialize, was Active: shutdown")
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("the end took %v", took)
	}
	out := nodes[1].Output()
	released, stopped := strings.Index(out, "msg=\"addresses released\""), strings.Index(out, "msg=stopped")
	if given := strings.Index(out, "an alarm is given up"); released < 0 || stopped < released || given < stopped {
		t.Errorf("the addresses are released at %d, the daemon stopped at %d, the alarm is given up at %d:\n%s", released, stopped, given, out)
	}
}
