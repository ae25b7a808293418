package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// TestServiceMaintenance: a command has a service answer with 503 and its page, its routes
// included, on the connections that there are. A reload keeps that, unless the file says
// another value of that very key, and a plan says so before.
func TestServiceMaintenance(t *testing.T) {
	a, port := webServer(t, "a"), freePort(t)
	file := filepath.Join(t.TempDir(), "soon.html")
	if err := os.WriteFile(file, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprintf("maintenance_page: {file: %s}", file)
	text := func(name, http string) string {
		return fmt.Sprintf(`services: [{name: %s, listen: "127.0.0.1:%s", backends: ["%s"], http: {%s}, routes: [{name: b, paths: [/b/], backends: ["%[3]s"]}]}]`, name, port, a, http)
	}
	d := startDaemon(t, text("web", page))
	kept, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	in := bufio.NewReader(kept)
	step := func(what string, status int, changes string) {
		t.Helper()
		for _, path := range []string{"/", "/b/x"} {
			kept.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(kept, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(what, err)
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != status || status == 503 && string(body) != "soon" {
				t.Errorf("%s: %s: %d %q, want %d", what, path, res.StatusCode, body, status)
			}
		}
		if is := d.View().Services[0].Maintenance(); is != (status == 503) {
			t.Errorf("%s: the status says maintenance %v", what, is)
		}
		if got := said(d); got != changes {
			t.Errorf("%s: said %q, want %q", what, got, changes)
		}
	}
	say := func(name string, on *bool) {
		t.Helper()
		if err := d.SetServiceMaintenance(name, on); err != nil {
			t.Error(err)
		}
	}
	reload := func(text, drops string) {
		t.Helper()
		var gone []string
		for _, c := range d.Plan(parse(t, text)).Dropped {
			gone = append(gone, c.Kind+" "+c.Name)
		}
		if got := strings.Join(gone, ", "); got != drops {
			t.Errorf("the plan drops %q, want %q", got, drops)
		}
		mustReload(t, d, text)
	}
	step("at first", 200, "")
	say("web", new(true))
	step("on", 503, "maintenance web=on(off)")
	reload(text("web", page), "")
	step("a reload of the same", 503, "maintenance web=on(off)")
	reload(text("web", page+", request_headers: {X-LB: all}"), "")
	step("another key in the file", 503, "maintenance web=on(off)")
	reload(text("shop", page), "")
	step("another name", 503, "maintenance shop=on(off)")
	say("shop", new(false))
	step("off", 200, "")
	say("shop", new(true))
	say("shop", nil)
	step("as the file says", 200, "")
	say("shop", new(true))
	reload(text("shop", page+", maintenance: true"), "maintenance shop")
	step("the file says so itself", 503, "")
	say("shop", new(false))
	step("off, against the file", 200, "maintenance shop=off(on)")
	reload(text("shop", page+", maintenance: true, request_headers: {X-LB: all}"), "")
	step("which a reload keeps", 200, "maintenance shop=off(on)")
	reload(text("shop", page), "maintenance shop")
	step("until the key changes", 200, "")
	say("shop", new(true))
	step("once more", 503, "maintenance shop=on(off)")
	reload(fmt.Sprintf(`services: [{name: shop, mode: tcp, listen: "127.0.0.1:%s", backends: ["%s"]}]`, port, a), "maintenance shop")
	if got := said(d); got != "" {
		t.Errorf("of another mode: said %q", got)
	}
}

// TestServiceMaintenanceOfOneThatIsLate: what was said of a service that has no plane yet holds
// from its first request on.
func TestServiceMaintenanceOfOneThatIsLate(t *testing.T) {
	port, file := freePort(t), filepath.Join(t.TempDir(), "soon.html")
	if err := os.WriteFile(file, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], http: {maintenance_page: {file: %s}}}]`, port, file))
	aside := file + ".aside"
	if err := os.Rename(file, aside); err != nil {
		t.Fatal(err)
	}
	d := startFrom(t, cfg, slog.New(slog.DiscardHandler))
	if d.View().Services[0].service.isEquipped() {
		t.Fatal("the service has begun without its file")
	}
	if err := d.SetServiceMaintenance("web", new(true)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, file); err != nil { // at once: the service may be reading
		t.Fatal(err)
	}
	lab.Until(t, 20*time.Second, "the service to serve", func() bool { return d.View().Services[0].Serving() })
	res, err := http.Get("http://127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 503 || string(body) != "soon" {
		t.Errorf("%d %q, want 503 and the page", res.StatusCode, body)
	}
}

// Wrong commands change nothing, and say what is wanted.
func TestServiceMaintenanceRefused(t *testing.T) {
	d := startDaemon(t, fmt.Sprintf(`services: [{name: db, mode: tcp, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"]}, {name: dns, mode: udp, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"]}]`,
		freePort(t), freePort(t)))
	for _, tc := range []struct {
		service string
		is      error
		says    string
	}{
		{"db", report.ErrInvalid, "its mode is tcp, and only mode http has requests to answer: disable its backends instead"},
		{"dns", report.ErrInvalid, "its mode is udp"},
		{"web", report.ErrUnknown, `no service is called "web": there are db, dns`},
	} {
		if err := d.SetServiceMaintenance(tc.service, new(true)); !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %s", tc.service, err, tc.says)
		}
	}
	if got := said(d); got != "" {
		t.Errorf("said %q", got)
	}
}
