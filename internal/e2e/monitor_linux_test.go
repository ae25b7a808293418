package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/havip/havip/internal/lab"
)

var recordMonitor = flag.Bool("monitor.record", false, "write what TestMonitor's hosts send to internal/monitor/testdata, whose golden output changes then")

// monitored is a pair on a LAN where a third host runs havip monitor.
type monitored struct {
	*pair
	t       *testing.T
	host    *lab.Host
	mac     net.HardwareAddr
	monitor *lab.Cmd
	all     *lab.Capture
}

// heard is a line of the monitor.
type heard struct {
	Kind, Link, Code, Text, Next string
	Time                         time.Time
	VRID                         uint8
	Advertisement                struct {
		Source   netip.Addr
		MAC      string
		Interval float64 `json:"interval_seconds"`
		Auth     string
	}
	Routers []struct {
		Source         string
		State          string
		Mean           float64 `json:"mean_seconds"`
		Advertisements int
	}
}

// watch starts the monitor on a third host.
func watch(t *testing.T, p *pair) *monitored {
	t.Helper()
	w := &monitored{pair: p, t: t, host: p.lab.MustHost("watcher", "192.168.31.9/24", "2001:db8:31::9/64")}
	link, err := w.host.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	w.mac = link.Attrs().HardwareAddr
	w.monitor = w.host.Command(havip(t), "monitor", "-i", "eth0", "-o", "json")
	w.monitor.Private = true
	if err := w.monitor.Start(); err != nil {
		t.Fatal(err)
	}
	// The watcher's own CARP is heard as well, which shows that it listens.
	lab.Eventually(t, 10*time.Second, "the monitor listens", func() error {
		select {
		case <-w.monitor.Done():
			return errors.New(w.monitor.Output())
		default:
		}
		w.send(nil, append([]byte{0x21, 9, 0, 7, 0, 1, 0, 0}, make([]byte, 28)...))
		return w.find(func(h *heard) bool {
			return h.Kind == "other" && strings.Contains(h.Text, "CARP, not VRRP: VHID 9, base 1s")
		})
	})
	if w.all, err = w.host.Capture("eth0", func(f lab.Frame) bool {
		_, _, protocol, payload, ip := f.IP()
		return f.EtherType() == 0x0806 || ip && (protocol == 112 || protocol == 51 || protocol == 58 && payload[0] == 136)
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

// send sends one frame: an ARP packet, or an IPv4 packet of protocol 112 to the group.
func (w *monitored) send(arp, message []byte) {
	w.t.Helper()
	dst, typ := net.HardwareAddr{1, 0, 0x5e, 0, 0, 0x12}, []byte{8, 0}
	payload := arp
	if arp != nil {
		dst, typ = net.HardwareAddr{255, 255, 255, 255, 255, 255}, []byte{8, 6}
	} else {
		header := []byte{0x45, 0xc0, 0, byte(20 + len(message)), 0, 1, 0, 0, 255, 112, 0, 0, 192, 168, 31, 9, 224, 0, 0, 18}
		payload = append(header, message...)
	}
	sendFrame(w.t, w.host, append(append(append([]byte(dst), w.mac...), typ...), payload...))
}

// sendFrame sends an Ethernet frame from a host.
func sendFrame(t *testing.T, host *lab.Host, frame []byte) {
	t.Helper()
	err := host.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, 0x88b5, nil) // an EtherType that nobody uses: to receive nothing
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lines returns what the monitor has printed.
func (w *monitored) lines() (list []heard) {
	w.t.Helper()
	for line := range strings.Lines(w.monitor.Output()) {
		var h heard
		if !strings.HasSuffix(line, "\n") || !strings.HasPrefix(line, "{") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &h); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		list = append(list, h)
	}
	return list
}

// find returns an error unless the monitor has printed a line of a kind.
func (w *monitored) find(want func(h *heard) bool) error {
	list := w.lines()
	for i := range list {
		if want(&list[i]) {
			return nil
		}
	}
	return fmt.Errorf("it prints\n%s", w.monitor.Output())
}

// says waits for a line of a kind or code whose text and advice have all of the words.
func (w *monitored) says(kind string, words ...string) {
	w.t.Helper()
	lab.Eventually(w.t, 30*time.Second, fmt.Sprintf("the monitor says %s %q", kind, words), func() error {
		return w.find(func(h *heard) bool {
			for _, word := range words {
				if !strings.Contains(h.Text+" / "+h.Next, word) {
					return false
				}
			}
			return h.Kind == kind || h.Code == kind && h.Kind != "over"
		})
	})
}

// end stops the monitor and returns its summary. The exit code says whether there was a
// problem.
func (w *monitored) end(problems bool) heard {
	w.t.Helper()
	if *recordMonitor {
		time.Sleep(6 * interval) // what comes after is worth a look, too
	}
	if err := w.monitor.Signal(syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	err := w.monitor.Wait()
	found := err != nil && strings.Contains(err.Error(), "exit status 1")
	// A machine that was late makes routers silent for too long.
	if late := w.stalled(time.Time{}) >= interval; err != nil && !found || found != problems && !(late && found) {
		w.t.Errorf("the monitor ends with %v, want problems: %v\n%s", err, problems, w.monitor.Output())
	}
	if *recordMonitor {
		name := strings.ToLower(strings.ReplaceAll(strings.Trim(strings.TrimPrefix(w.t.Name(), "TestMonitor"), "/"), "_", "-"))
		file := filepath.Join("../monitor/testdata", name+".pcap")
		if err := os.WriteFile(file, w.all.PCAP(), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	list := w.lines()
	return list[len(list)-1]
}

// TestMonitor: havip monitor on a third host says what goes on between two routers of
// others, and what is wrong.
func TestMonitor(t *testing.T) {
	t.Parallel()
	lab.Need(t, "keepalived", "nft")
	pass := newRouter("VI_1", 51, 2, "pass", false, false, [2]uint8{120, 110})
	v3 := newRouter("VI_1", 51, 3, "", false, false, [2]uint8{120, 110})
	v6 := newRouter("VI_1", 51, 3, "", true, false, [2]uint8{120, 110})
	ah := newRouter("VI_1", 51, 2, "ah", false, false, [2]uint8{120, 110})
	k := keepalivedPeer
	both := func(w *monitored) {
		w.on(0)
		w.says("state", "192.168.31.240 is Active")
		w.on(1)
		w.says("two-active", "192.168.31.240 (priority 120) and 192.168.31.241 (priority 110)")
	}
	for _, tc := range []struct {
		name   string
		peers  [2]peer
		router virtualRouter
		story  func(w *monitored)
		clean  bool // no problem is found
	}{
		{"takeover v2 PASS", [2]peer{k, k}, pass, func(w *monitored) {
			w.on(0)
			w.says("state", "192.168.31.240 is Active", "priority 120, every 1s, version 2")
			w.backup()
			w.off(0)
			w.says("state", "192.168.31.241 is Active", "after the last advertisement of 192.168.31.240")
		}, true},
		{"hand-over v3", [2]peer{k, k}, v3, func(w *monitored) {
			w.on(0)
			w.says("state", "192.168.31.240 is Active")
			w.backup()
			if err := w.nodes[0].stop(); err != nil {
				w.t.Fatal(err)
			}
			w.says("state", "192.168.31.240 leaves: priority 0")
			w.says("state", "192.168.31.241 is Active", "after 192.168.31.240 left")
			w.on(0)
			w.says("state", "192.168.31.240 is Active: it outranks 192.168.31.241 (priority 120 over 110)")
		}, true},
		{"takeover v3 IPv6", [2]peer{k, k}, v6, func(w *monitored) {
			w.on(0)
			w.says("state", "is Active: priority 120")
			w.backup()
			w.off(0)
			w.says("state", "is Active", "after the last advertisement")
		}, true},
		{"AH", [2]peer{k, k}, ah, func(w *monitored) {
			w.on(0)
			w.says("state", "192.168.31.240 is Active")
			if err := w.find(func(h *heard) bool { return h.Advertisement.Auth == "ah" }); err != nil {
				w.t.Error(err)
			}
		}, true},
		{"one-way firewall", [2]peer{k, k}, v3, func(w *monitored) {
			hear := w.nodes[1].deaf(w.t)
			both(w)
			w.says("two-active", "192.168.31.241 does not hear 192.168.31.240", "on 192.168.31.241: a firewall that drops IP protocol 112")
			lab.Until(w.t, 30*time.Second, "both advertise for a while", func() bool {
				n := 0
				for _, h := range w.lines() {
					if h.Advertisement.Source == w.nodes[1].addr(false) {
						n++
					}
				}
				return n >= 4
			})
			hear()
			w.says("over", "192.168.31.241 no longer advertises beside the other")
		}, false},
		{"wrong password", [2]peer{k, edited(k, "keepalived.conf", "d0cker", "docker")}, pass, func(w *monitored) {
			both(w)
			w.says("password", "the passwords of 192.168.31.240 and 192.168.31.241 differ")
			w.says("two-active", "the passwords of")
			if out := w.monitor.Output(); strings.Contains(out, "docker") || strings.Contains(out, "d0cker") {
				w.t.Errorf("the monitor prints a password:\n%s", out)
			}
		}, false},
		{"wrong version", [2]peer{k, edited(k, "keepalived.conf", "version 3", "version 2")}, v3, func(w *monitored) {
			both(w)
			w.says("two-active", "192.168.31.240 speaks version 3, 192.168.31.241 version 2")
		}, false},
		{"VRID clash", [2]peer{k, edited(k, "keepalived.conf", "192.168.31.51", "192.168.31.77")}, pass, func(w *monitored) {
			both(w)
			w.says("vrid-clash", "two virtual routers use this VRID", "192.168.31.51", "192.168.31.77")
		}, false},
		{"nobody left", [2]peer{k, k}, v3, func(w *monitored) {
			w.on(0)
			w.says("state", "192.168.31.240 is Active")
			w.off(0)
			w.says("no-active", "192.168.31.240 fell silent", "none took over")
			w.on(1)
			w.says("over", "there is an Active router again: 192.168.31.241")
		}, false},
		{"foreign ARP", [2]peer{k, k}, v3, func(w *monitored) {
			w.on(0)
			w.says("state", "192.168.31.240 is Active")
			vip := []byte{192, 168, 31, 51}
			arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, w.mac...)
			arp = append(append(append(arp, vip...), 0, 0, 0, 0, 0, 0), vip...)
			w.send(arp, nil)
			w.says("foreign-claim", "a gratuitous ARP by "+w.mac.String()+" claims 192.168.31.51", "the Active router is 192.168.31.240")
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := watch(t, newPair(t, tc.peers, []virtualRouter{tc.router}))
			tc.story(w)
			s := w.end(!tc.clean)
			for _, r := range s.Routers {
				if r.Advertisements > 5 && w.stalled(time.Time{}) < interval && (r.Mean < 0.9 || r.Mean > 1.1) {
					t.Errorf("%s advertises every %v s, want 1", r.Source, r.Mean)
				}
			}
			if len(s.Routers) == 0 {
				t.Error("no router in the summary")
			}
		})
	}
}

func (w *monitored) on(side int) {
	w.t.Helper()
	if err := w.nodes[side].powerOn(); err != nil {
		w.t.Fatal(err)
	}
}

// backup starts LB-02 and waits until it has heard LB-01, as a Backup.
func (w *monitored) backup() {
	w.t.Helper()
	w.on(1)
	lab.Until(w.t, 30*time.Second, "LB-02 is Backup", func() bool {
		out := w.nodes[1].cmd.Output()
		return strings.Contains(out, "Entering BACKUP") || strings.Contains(out, "Backup") // Keepalived, FRR
	})
	heard := len(w.lines())
	lab.Until(w.t, 30*time.Second, "LB-02 hears LB-01", func() bool { return len(w.lines()) > heard })
}

func (w *monitored) off(side int) {
	w.t.Helper()
	if err := w.nodes[side].powerOff(); err != nil {
		w.t.Fatal(err)
	}
}
