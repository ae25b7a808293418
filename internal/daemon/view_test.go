package daemon

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb"
)

// names are those of the parts of a View, and of its configuration.
func names(v *View) (parts, configured []string) {
	for _, r := range v.Routers {
		parts = append(parts, "router "+r.Config.Name)
	}
	for _, c := range v.Checks {
		parts = append(parts, "check "+c.Config.Name)
	}
	for _, g := range v.Groups {
		parts = append(parts, "group "+g.Config.Name)
	}
	for _, s := range v.Services {
		parts = append(parts, "service "+s.Config.Name)
		for _, p := range s.Pools {
			parts = append(parts, "pool "+p.Route)
		}
	}
	for _, r := range v.Config.VRRP {
		configured = append(configured, "router "+r.Name)
	}
	for _, c := range v.Config.Checks {
		configured = append(configured, "check "+c.Name)
	}
	for _, g := range v.Config.Groups {
		configured = append(configured, "group "+g.Name)
	}
	for _, s := range v.Config.Services {
		configured = append(configured, "service "+s.Name)
		if len(s.Pool.Backends) > 0 {
			configured = append(configured, "pool ")
		}
		for _, r := range s.Routes {
			configured = append(configured, "pool "+r.Name)
		}
	}
	return parts, configured
}

// askParts asks every part of a View for its status.
func askParts(v *View) {
	for _, r := range v.Routers {
		r.Status()
		r.Addresses()
		r.NotRunning()
	}
	for _, c := range v.Checks {
		c.Status()
		c.Target()
	}
	for _, g := range v.Groups {
		g.State()
	}
	for _, s := range v.Services {
		s.Stats()
		s.Tally()
		s.Trouble()
		s.Certificates()
		for _, p := range s.Pools {
			p.Status()
			for _, m := range p.Monitors() {
				m.Status()
			}
		}
	}
}

// TestViewIsComplete: whoever looks at a daemon that is reloaded again and again
// sees one configuration or another, with all of its parts, and before and after
// Run none.
func TestViewIsComplete(t *testing.T) {
	a, b := freePort(t), freePort(t)
	texts := []string{
		fmt.Sprintf(`checks: {one: {type: tcp, address: "127.0.0.1:9"}, two: {type: tcp, address: "127.0.0.1:9"}}
services: [{name: a, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"], check: {type: tcp}}]`, a),
		fmt.Sprintf(`checks: {two: {type: tcp, address: "127.0.0.1:10"}}
services: [{name: b, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9", "127.0.0.1:10"], check: {type: tcp}},
  {name: c, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"], routes: [
    {name: z, server_names: [z.example.org], backends: ["127.0.0.1:9"]}, {name: y, server_names: [y.example.org], backends: ["127.0.0.1:9"]}]}]`, a, b),
	}
	d, err := New(parse(t, texts[0]), slog.New(slog.DiscardHandler), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	empty := func(when string) {
		t.Helper()
		if parts, _ := names(d.View()); len(parts) > 0 || !d.View().Since.IsZero() {
			t.Errorf("%s there are %q", when, parts)
		}
	}
	empty("before Run")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-d.started

	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				v := d.View()
				askParts(v)
				if parts, configured := names(v); !slices.Equal(parts, configured) || len(parts) == 0 {
					t.Errorf("%q of %q", parts, configured)
				}
				select {
				case <-done:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	for i := range 20 {
		cfg := parse(t, texts[(i+1)%2])
		if err := d.Reconfigure(cfg); err != nil {
			t.Error(err)
		}
		if d.View().Config != cfg {
			t.Error("the reload has ended, and the View is that of before")
		}
	}
	close(done)
	readers.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	empty("after Run")
}

// TestViewTakesNoLock: a View and all that it reports are there while a reload is
// under way, for however long.
func TestViewTakesNoLock(t *testing.T) {
	d := startDaemon(t, fmt.Sprintf(`checks: {one: {type: tcp, address: "127.0.0.1:9"}}
services: [{name: a, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], check: {type: tcp}}]`, freePort(t)))
	d.mu.Lock()
	defer d.mu.Unlock()
	inTime(t, "a report", func() { askParts(d.View()) })
	inTime(t, "a plan", func() { d.Plan(&config.Config{}) })
	inTime(t, "what was said", func() { d.Changes(); d.Maintenance() })
}

// inTime fails if something waits for a reload that never ends.
func inTime(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Errorf("%s waits", what)
	}
}

// TestViewOfLateService: a service that could not begin, for whatever reason, is seen
// to serve when it does.
func TestViewOfLateService(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	dir := t.TempDir()
	file := dir + "/www.pem"
	newCertificate(t, file, "www.example.org")
	cfg := parse(t, fmt.Sprintf(`services:
- {name: port, listen: "%s", mode: tcp, backends: ["127.0.0.1:9"]}
- {name: file, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"], tls: {certificates: [{certificate: %s}]}}
- {name: udp, listen: "%s", mode: udp, backends: ["127.0.0.1:9"]}
- {name: other, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"]}`, taken.Addr(), freePort(t), file, takenUDP.LocalAddr(), freePort(t)))
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	d := startFrom(t, cfg, slog.New(slog.DiscardHandler))
	serving := func() (all []string) {
		for _, s := range d.View().Services {
			if s.Serving() && s.service.isEquipped() {
				all = append(all, s.Config.Name)
			}
		}
		return all
	}
	first := d.View()
	if got := serving(); !slices.Equal(got, []string{"other"}) {
		t.Errorf("%q serve", got)
	}
	taken.Close()
	takenUDP.Close()
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	want := 4
	if runtime.GOOS != "linux" {
		want = 3 // see lb.UDP
	}
	until(t, "all serve", func() bool { return len(serving()) == want })
	if !first.Services[0].Serving() || !first.Services[1].service.isEquipped() {
		t.Error("a View of before does not report what holds now")
	}
}

// TestStatsSurviveReload: what a service has counted it goes on to count from, with
// whatever other settings.
func TestStatsSurviveReload(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	labtest.ServePackets(t, udp, labtest.Echo)
	for _, tc := range []struct{ mode, backend, other string }{
		{"tcp", echoServer(t, "a"), "idle_timeout: 1h"},
		{"http", webServer(t, "a"), "idle_timeout: 1h, tries: 2, http: {max_body: 1KiB}"},
		{"udp", udp.LocalAddr().String(), "idle_timeout: 1h"},
	} {
		if tc.mode == "udp" && runtime.GOOS != "linux" {
			continue // see lb.UDP
		}
		t.Run(tc.mode, func(t *testing.T) {
			port := freePort(t)
			service := func(name, rest string) string {
				return fmt.Sprintf(`services: [{name: %s, listen: "127.0.0.1:%s", mode: %s, backends: ["%s"], %s}]`, name, port, tc.mode, tc.backend, rest)
			}
			d := startDaemon(t, service("a", "access_log: true"))
			network := map[bool]string{true: "udp", false: "tcp"}[tc.mode == "udp"]
			use := func() {
				t.Helper()
				c, err := net.Dial(network, "127.0.0.1:"+port)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				if tc.mode == "http" {
					_, err = http.ReadResponse(bufio.NewReader(c), nil)
				} else {
					_, err = c.Read(make([]byte, 100))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			stats := func() lb.Stats { return d.View().Services[0].Stats() }
			use()
			// The bytes of a UDP session are counted when it ends.
			until(t, "it is counted", func() bool { return stats().Accepted == 1 && (tc.mode == "udp" || stats().Sent > 0) })
			for i, text := range []string{service("a", tc.other), service("b", "balance: random"), service("b", "balance: random, pool: {max_fails: 2}")} {
				before := stats()
				mustReload(t, d, text)
				if after := stats(); after.Accepted < before.Accepted || after.Sent < before.Sent || after.Received < before.Received {
					t.Errorf("%s: %+v, was %+v", text, after, before)
				}
				use()
				if got := stats().Accepted; got != uint64(i+2) {
					t.Errorf("%s: %d accepted, want %d", text, got, i+2)
				}
			}
		})
	}
}
