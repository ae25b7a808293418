package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// TestConformance47ReloadKeepsAddress: with everything about a router that
// may change while it holds its address. No RFC knows of reloads.
func TestConformance47ReloadKeepsAddress(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	notified := filepath.Join(t.TempDir(), "fifo")
	first := "vrrp:" + fmt.Sprintf(reloadRouter, 120, "")
	r := startReloader(t, h, first)
	lab.Until(t, 30*time.Second, "the only router becomes Active", func() bool { return h.Holds(vip) })
	gone := watchDeletions(t, h)
	wire, err := h.Capture("eth0", lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	priorities := func() []byte {
		var seen []byte
		for _, f := range wire.Packets() {
			if _, _, _, b, ok := f.IP(); ok && b[1] == 51 {
				seen = append(seen, b[2])
			}
		}
		return slices.Compact(seen)
	}
	shows := func(p byte) {
		t.Helper()
		lab.Until(t, 30*time.Second, fmt.Sprintf("advertisements with priority %d", p), func() bool {
			seen := priorities()
			return len(seen) > 0 && seen[len(seen)-1] == p
		})
	}
	const checks = `checks:
  good: {type: exec, command: [/bin/true], interval: 100ms, timeout: 10s, long_timeout: true, rise: 1, fall: %d}
  slow: {type: exec, command: [/bin/sleep, "5"], interval: 10s}
  bad: {type: exec, command: [/bin/false], interval: 100ms, timeout: 10s, long_timeout: true, rise: 1, fall: 1}
`
	for _, tc := range []struct {
		name, config string
		priority     byte
	}{
		{"the same", first, 120},
		{"only moved in the file", "# a comment\n\n" + first, 120},
		{"another priority", "vrrp:" + fmt.Sprintf(reloadRouter, 100, ""), 100},
		{"a track, whose check has no result yet", fmt.Sprintf(checks, 2) + "vrrp:" + fmt.Sprintf(reloadRouter, 100, ", track: [{check: good}, {check: slow}]"), 100},
		{"another check of that name", fmt.Sprintf(checks, 3) + "vrrp:" + fmt.Sprintf(reloadRouter, 100, ", track: [{check: good}, {check: slow}]"), 100},
		{"a weight, of a check that fails", fmt.Sprintf(checks, 3) + "vrrp:" + fmt.Sprintf(reloadRouter, 100, ", track: [{check: bad, weight: -30}]"), 70},
		{"notification", "vrrp:" + fmt.Sprintf(reloadRouter, 110, ", notify: [/bin/true], notify_fifo: "+notified), 110},
		{"excluded addresses and a route", "vrrp:" + fmt.Sprintf(reloadRouter, 110, ", excluded: [192.168.31.249/24, 192.168.31.248/24], routes: [{to: 10.9.0.0/16}]"), 110},
		{"one of them gone", "vrrp:" + fmt.Sprintf(reloadRouter, 110, ", excluded: [192.168.31.248/24]"), 110},
		{"one of them moves to another router", "vrrp:" + fmt.Sprintf(reloadRouter, 110, "") +
			"  - {name: VI_2, interface: eth0, vrid: 52, interval: 100ms, addresses: [192.168.31.252/24], excluded: [192.168.31.248/24]}\n", 110},
		{"another router beside it", "vrrp:" + fmt.Sprintf(reloadRouter, 110, "") +
			"  - {name: VI_2, interface: eth0, vrid: 52, interval: 100ms, addresses: [192.168.31.252/24]}\n", 110},
		{"another router on an interface that is not there", "vrrp:" + fmt.Sprintf(reloadRouter, 110, "") +
			"  - {name: VI_9, interface: eth9, vrid: 59, interval: 100ms, addresses: [192.168.31.9/24]}\n", 110},
		{"the other one gone again, a service", "vrrp:" + fmt.Sprintf(reloadRouter, 120, "") +
			"services:\n  - {name: web, listen: \":8080\", backends: [\"192.168.31.10:80\"]}\n", 120},
	} {
		r.must(tc.config)
		shows(tc.priority)
		if !h.Holds(vip) || gone.of(vip) != 0 {
			t.Fatalf("%s: the address was dropped", tc.name)
		}
		for _, extra := range []string{"192.168.31.249", "192.168.31.248", "192.168.31.252"} {
			a, want := netip.MustParseAddr(extra), strings.Contains(tc.config, extra)
			lab.Until(t, 30*time.Second, fmt.Sprintf("%s: %v is held: %v", tc.name, a, want), func() bool { return h.Holds(a) == want })
		}
	}
	for name, config := range map[string]string{
		"unknown key":          strings.Replace(first, "vrid", "vird", 1),
		"interface missing":    strings.Replace(first, "eth0", "eth9", 1),
		"source missing":       "vrrp:" + fmt.Sprintf(reloadRouter, 120, ", source: 192.168.31.99"),
		"not a FIFO":           "vrrp:" + fmt.Sprintf(reloadRouter, 120, ", notify_fifo: /dev/null"),
		"port of another host": first + "services:\n  - {name: web, listen: \":8080\", backends: [\"192.168.31.10:80\"]}\n  - {name: x, listen: \":8081\", mode: tcp, backends: [\"192.168.31.10:80\"]}\n",
	} {
		if name == "port of another host" {
			ln, err := h.Listen("tcp", ":8081")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
		}
		line := r.reload(config)
		if !strings.Contains(line, "nothing changed") || !strings.Contains(line, "havip.yaml:") {
			t.Errorf("%s: it said %s", name, line)
		}
	}
	shows(120)
	if seen := priorities(); slices.Contains(seen, 0) || gone.of(vip) != 0 || !h.Holds(vip) {
		t.Errorf("priorities on the wire: %v; address removed %d times", seen, gone.of(vip))
	}
}

// TestConformance50ReloadMovesAddress: in one reload an address goes from
// one router to another, and stays there. Each router does what RFC 9568 §6.4.3
// says of its shutdown, and §6.4.1 of its start.
func TestConformance50ReloadMovesAddress(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, interfaceOf2 string }{{"on one interface", "eth0"}, {"to another interface", "eth1"}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			h := l.MustHost("lb01", "192.168.31.240/24")
			other, err := l.Segment("other")
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Attach("eth1", other, netip.MustParsePrefix("10.0.0.1/24")); err != nil {
				t.Fatal(err)
			}
			config := func(one, two string) string {
				return fmt.Sprintf(`vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, interval: 1s, addresses: [%s]}
  - {name: VI_2, interface: %s, vrid: 52, interval: 1s, addresses: [%s]}
`, one, tc.interfaceOf2, two)
			}
			r := startReloader(t, h, config("192.168.31.250/24, 192.168.31.251/24", "192.168.31.252/24"))
			addrs := []netip.Addr{vip, netip.MustParseAddr("192.168.31.251"), netip.MustParseAddr("192.168.31.252")}
			all := func() bool {
				return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !h.Holds(a) })
			}
			lab.Until(t, 30*time.Second, "all addresses are held", all)
			gone := watchDeletions(t, h)
			r.must(config("192.168.31.251/24", "192.168.31.252/24, 192.168.31.250/24"))
			lab.Until(t, 30*time.Second, "all addresses are held again", all)
			lab.Until(t, 30*time.Second, "the address is removed on its way", func() bool { return gone.of(vip) > 0 })
			// Longer than a round of either router, and than a lease.
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if !all() {
					t.Fatal("an address went away again")
				}
			}
			link, err := h.Netlink().LinkByName(tc.interfaceOf2)
			if err != nil {
				t.Fatal(err)
			}
			list, err := h.Netlink().AddrList(link, syscall.AF_INET)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(vip.AsSlice()) }) {
				t.Errorf("%v is not on %s", vip, tc.interfaceOf2)
			}
			if n := gone.of(vip); n != 1 {
				t.Errorf("the address was removed %d times on its way, want 1", n)
			}
		})
	}
}

// TestReloadGrowsInPlace: two nodes get an address and a peer more, the Active one
// first, and no client notices. What a node leaves to its guard grows as well: when
// it is killed the new address goes with the old one, and nobody holds either twice.
func TestReloadGrowsInPlace(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	client := l.MustHost("client", "192.168.31.10/24")
	more := netip.MustParseAddr("192.168.31.251")
	var hosts [2]*lab.Host
	var nodes [2]*reloader
	// Without a lease, so that only the guard takes the addresses away.
	config := func(i int, peers, addresses string) string {
		return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 500ms, lease: 0s, peers: [192.168.31.%d%s], addresses: [192.168.31.250/24%s]}\n",
			120-10*i, 241-i, peers, addresses)
	}
	for i := range hosts { // both before either of them looks for the other one
		hosts[i] = l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i))
	}
	for i := range hosts {
		ln, err := hosts[i].Listen("tcp", ":8080")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, i) })}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		nodes[i] = startReloader(t, hosts[i], config(i, "", ""))
		if i == 0 {
			lab.Until(t, 30*time.Second, "LB-01 has the address", func() bool { return hosts[0].Holds(vip) })
		}
	}
	lab.Until(t, 30*time.Second, "LB-02 takes part", func() bool { return strings.Contains(nodes[1].cmd.Output(), "to=Backup") })
	states := func() (n int) {
		for _, node := range nodes {
			n += strings.Count(node.cmd.Output(), "msg=state ")
		}
		return n
	}
	gone, before := watchDeletions(t, hosts[0]), states()

	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { // somebody asks all the time, each time anew
		for {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(2 * time.Millisecond):
			}
			if err := fetch(t.Context(), client, "http://192.168.31.250:8080/", "0\n"); err != nil {
				ended <- err
				return
			}
		}
	}()
	for i, n := range nodes {
		n.must(config(i, ", 192.168.31.243", ", 192.168.31.251/24"))
		lab.Until(t, 30*time.Second, "LB-01 has both addresses", func() bool { return hosts[0].Holds(vip) && hosts[0].Holds(more) })
	}
	// Longer than a Backup waits that hears nothing.
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if hosts[1].Holds(vip) || hosts[1].Holds(more) {
			t.Fatal("LB-02 has an address, too")
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("a client has noticed: %v", err)
	}
	if n := states() - before; n != 0 || gone.of(vip) != 0 {
		t.Errorf("%d changes of state, address removed %d times; want none", n, gone.of(vip))
	}
	for _, want := range []string{`keys="addresses, peers"`, "a Keepalived before 2.3.3 takes over until it has the same"} {
		lab.Until(t, 30*time.Second, "LB-01 says: "+want, func() bool { return strings.Contains(nodes[0].cmd.Output(), want) })
	}

	wire, err := hosts[1].Capture("eth0", lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].cmd.Kill()
	lab.Until(t, 30*time.Second, "LB-01's last will names both addresses", func() bool {
		return slices.ContainsFunc(wire.Packets(), func(f lab.Frame) bool {
			_, _, _, b, ok := f.IP()
			return ok && b[2] == 0 && b[3] == 2 // priority, count of addresses
		})
	})
	lab.Until(t, 30*time.Second, "LB-02 alone has both addresses", func() bool {
		return hosts[1].Holds(vip) && hosts[1].Holds(more) && !hosts[0].Holds(vip) && !hosts[0].Holds(more)
	})
}

// fetch asks over a connection of its own, and fails if the answer is another one.
func fetch(ctx context.Context, from *lab.Host, url, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tr := &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
		return fmt.Errorf("answered %q (%v), want %q", got, err, want)
	}
	return nil
}

// TestReloadRenumbers: two nodes are reloaded with quite other addresses. The Backup
// first: nobody notices. The Active one first: one node holds the old ones and the
// other the new ones, until the second is reloaded, which never puts what the first
// one has.
func TestReloadRenumbers(t *testing.T) {
	t.Parallel()
	old, next := netip.MustParseAddr("192.168.31.250"), netip.MustParseAddr("192.168.31.249")
	for _, activeFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("Active first %v", activeFirst), func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			config := func(priority int, a netip.Addr) string {
				return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 500ms, lease: 20s, addresses: [%v/24]}\n", priority, a)
			}
			a, b := l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")
			first := startReloader(t, a, config(120, old))
			lab.Until(t, 30*time.Second, "the first router becomes Active", func() bool { return a.Holds(old) })
			second := startReloader(t, b, config(110, old))
			lab.Until(t, 30*time.Second, "the second one hears it", func() bool { return strings.Contains(second.cmd.Output(), "to=Backup") })
			there, here := watchDeletions(t, b), watchDeletions(t, a)
			const said = "quite other addresses than before"
			if activeFirst {
				first.must(config(120, next))
				lab.Until(t, 30*time.Second, "both hold", func() bool { return a.Holds(next) && b.Holds(old) && !a.Holds(old) })
				second.must(config(110, next))
				lab.Until(t, 30*time.Second, "the old address is nobody's", func() bool { return !b.Holds(old) })
			} else {
				second.must(config(110, next))
				time.Sleep(2500 * time.Millisecond) // longer than the first would go unheard
				if !a.Holds(old) || here.of(old) > 0 {
					t.Errorf("the first one has lost the old address: %s", first.cmd.Output())
				}
				first.must(config(120, next))
				lab.Until(t, 30*time.Second, "the new address is there", func() bool { return a.Holds(next) && !a.Holds(old) })
			}
			time.Sleep(2500 * time.Millisecond)
			if there.put(next) || !a.Holds(next) || b.Holds(old) || !activeFirst && there.put(old) {
				t.Errorf("the second one has put what the first one has:\n%s", second.cmd.Output())
			}
			for _, r := range []*reloader{first, second} {
				if n := strings.Count(r.cmd.Output(), said); n != 1 {
					t.Errorf("%q is said %d times:\n%s", said, n, r.cmd.Output())
				}
			}
		})
	}
}

// TestReloadKeepsConnections: a service that keeps its listen address refuses
// nobody and cuts nobody, whatever else of it changes.
func TestReloadKeepsConnections(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h := l.MustHost("lb01", "192.168.31.240/24")
	app := l.MustHost("app", "192.168.31.242/24")
	client := l.MustHost("client", "192.168.31.10/24")
	for _, port := range []string{"8080", "8081"} {
		ln, err := app.Listen("tcp", ":"+port)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, port) })}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	service := func(mode, rest string) string {
		return fmt.Sprintf("services:\n  - {name: web, listen: \":8080\", mode: %s, %s}\n", mode, rest)
	}
	r := startReloader(t, h, service("tcp", `backends: ["192.168.31.242:8080"]`))
	dial := func() (net.Conn, error) { return client.DialContext(t.Context(), "tcp", "192.168.31.240:8080") }
	ask := func(c net.Conn) (string, error) {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return "", err
		}
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		return strings.TrimSpace(line), err
	}
	var kept net.Conn
	lab.Eventually(t, 30*time.Second, "the service answers", func() error {
		c, err := dial()
		if err == nil {
			kept = c
			_, err = ask(c)
		}
		return err
	})
	defer kept.Close()

	// Somebody asks all the time, each time anew.
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(2 * time.Millisecond):
			}
			c, err := dial()
			if err == nil {
				_, err = ask(c)
				c.Close()
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for _, tc := range []struct{ name, mode, rest string }{
		{"another backend", "tcp", `backends: ["192.168.31.242:8080", "192.168.31.242:8081"]`},
		{"another balance", "tcp", `balance: least-conn, backends: ["192.168.31.242:8080", "192.168.31.242:8081"]`},
		{"a check", "tcp", `balance: least-conn, backends: ["192.168.31.242:8080", "192.168.31.242:8081"], check: {type: tcp, interval: 100ms}`},
		{"another check", "tcp", `balance: least-conn, backends: ["192.168.31.242:8080", "192.168.31.242:8081"], check: {type: http, interval: 200ms}`},
		{"a router, which is no business of it", "tcp", `balance: least-conn, backends: ["192.168.31.242:8080"]}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, addresses: [192.168.31.250/24]`},
	} {
		r.must(service(tc.mode, tc.rest))
		if _, err := ask(kept); err != nil {
			t.Fatalf("%s: an established connection: %v", tc.name, err)
		}
	}
	for _, tc := range []struct{ name, mode, rest string }{
		{"another mode", "http", `backends: ["192.168.31.242:8080"]`},
		{"another balance of requests", "http", `balance: random, backends: ["192.168.31.242:8081"]`},
	} {
		r.must(service(tc.mode, tc.rest))
		c, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		want := tc.rest[len(tc.rest)-6 : len(tc.rest)-2]
		if got, err := ask(c); err != nil || got != want {
			t.Errorf("%s: answered by %q (%v), want %s", tc.name, got, err, want)
		}
		c.Close()
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("a new connection failed meanwhile: %v", err)
	}

	// Another address on the same port: the old listener must let go first.
	r.must(strings.Replace(service("http", `backends: ["192.168.31.242:8080"]`), `":8080"`, `"192.168.31.240:8080"`, 1))
	c, err := dial()
	if err != nil {
		t.Fatalf("after the listen address changed: %v", err)
	}
	defer c.Close()
	if got, err := ask(c); err != nil || got != "8080" {
		t.Errorf("after the listen address changed: answered by %q (%v)", got, err)
	}
}
