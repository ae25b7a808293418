package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// logged is what a file has.
func logged(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// TestAccessLogFiles: services share a file, each mode has its format, a file that was moved
// away is followed until logs are opened anew, by command or reload, and nothing is lost by a
// reload that changes the log.
func TestAccessLogFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.log")
	backend := echoServer(t, "a")
	web, other, db := freePort(t), freePort(t), freePort(t)
	config := func(name, more string) string {
		log := fmt.Sprintf("access_log: {file: %s%s}", filepath.Join(dir, name), more)
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], %[5]s},`+
			`{name: other, listen: "127.0.0.1:%[2]s", backends: ["127.0.0.1:9"], %[5]s}, {name: db, listen: "127.0.0.1:%[3]s", mode: tcp, backends: ["%[4]s"], access_log: {file: %[6]s}}]`,
			web, other, db, backend, log, filepath.Join(dir, "db.log"))
	}
	d := startDaemon(t, config("web.log", ""))
	ask := func(port, target string) {
		t.Helper()
		res, err := http.Get("http://127.0.0.1:" + port + target)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	has := func(file, want string) {
		t.Helper()
		until(t, want+" is in "+file, func() bool { return strings.Contains(logged(filepath.Join(dir, file)), want) })
	}
	ask(web, "/1")
	ask(other, "/2")
	has("web.log", `"GET /1 HTTP/1.1" 502 `)
	has("web.log", `"GET /2 HTTP/1.1" 502 `)
	c, err := net.Dial("tcp", "127.0.0.1:"+db)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = say(c, "x")
	c.Close()
	has("db.log", `"service":"db"`)

	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	ask(web, "/3")
	has("web.log.1", "/3 ")
	if err := d.ReopenLogs(); err != nil {
		t.Fatal(err)
	}
	ask(web, "/4")
	has("web.log", "/4 ")
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	mustReload(t, d, config("web.log", "")) // which changes nothing else
	ask(web, "/5")
	has("web.log", "/5 ")

	mustReload(t, d, config("web.json", ", format: json"))
	ask(web, "/6")
	has("web.json", `"target":"/6"`)
	if strings.Contains(logged(path), "/6") {
		t.Error("the file of before goes on")
	}

	// A folder that has gone fails no reload of something else, is told of, and has the lines
	// as soon as it is back.
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	mustReload(t, d, config("web.json", ", format: json")+"\nlog: {level: debug}")
	trouble := func() bool { return d.View().Services[0].LogTrouble() != nil }
	if !trouble() {
		t.Error("nothing is said of a file that cannot be opened")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "the file is opened", func() bool { return !trouble() })
	ask(web, "/6a")
	has("web.json", `"target":"/6a"`)

	// What cannot be opened changes nothing, and says what is missing.
	bad := config("none/web.json", ", format: json")
	if err := d.Reconfigure(parse(t, bad)); err == nil || !strings.Contains(err.Error(), "access_log: ") || !strings.Contains(err.Error(), "none/web.json") || !strings.Contains(err.Error(), "nothing changed") {
		t.Errorf("a folder that is not there: %v", err)
	}
	ask(web, "/7")
	has("web.json", `"target":"/7"`)
}

// TestAccessLogThatIsLate: a service whose log cannot be opened at the start serves without it,
// counts the lines that it does not have, says so, and goes on with the log once that can be
// opened, through a reload, too.
func TestAccessLogThatIsLate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	port := freePort(t)
	text := fmt.Sprintf(`services: [{name: a, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], access_log: {file: %s/a.log}}]`, port, dir)
	d := startDaemon(t, text)
	ask := func() error {
		res, err := http.Get("http://127.0.0.1:" + port + "/late")
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	service := func() ServiceView { return d.View().Services[0] }
	until(t, "the service answers", func() bool { return ask() == nil })
	until(t, "a line is lost", func() bool { return service().Unlogged() > 0 })
	mustReload(t, d, text+"\nlog: {level: debug}")
	if err := service().LogTrouble(); err == nil || !strings.Contains(err.Error(), dir+"/a.log: no such file") {
		t.Errorf("trouble: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	until(t, "the log is open", func() bool { return service().LogTrouble() == nil })
	lost := service().Unlogged()
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	until(t, "a line", func() bool { return strings.Contains(logged(dir+"/a.log"), "/late") })
	if n := service().Unlogged(); n != lost || lost == 0 {
		t.Errorf("%d lines lost, %d before", n, lost)
	}
}

// TestAccessLogOfRoute: lines name the service, and beside it the pool of a route; both logs have
// what the backend has answered, and when. A client that a proxy has named has no port.
func TestAccessLogOfRoute(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "web.json"), freePort(t)
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:9"], access_log: {log: true, file: %s, format: json},
  http: {trusted_proxies: [127.0.0.1]}, routes: [{name: api, paths: [/api/], backends: ["%s"]}]}]`, port, file, webServer(t, "a"))
	var out labtest.Log
	startLogging(t, text, slog.New(slog.NewTextHandler(&out, nil)))
	for _, target := range []string{"/", "/api/"} {
		until(t, "an answer", func() bool {
			req, err := http.NewRequest("GET", "http://127.0.0.1:"+port+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", "192.0.2.7")
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				res.Body.Close()
			}
			return err == nil
		})
	}
	for _, want := range []string{
		`"service":"web","client":"192.0.2.7","peer":"127.0.0.1:`, `"target":"/",`,
		`"service":"web","pool":"web/api","client":"192.0.2.7","peer":"127.0.0.1:`, `"route":"api",`, `"x_forwarded_for":"192.0.2.7",`,
	} {
		until(t, want+" is in the file", func() bool { return strings.Contains(logged(file), want) })
	}
	for _, want := range []string{"service=web client=192.0.2.7 ", " pool=web/api peer=127.0.0.1:", " upstream_status=200 header="} {
		until(t, want+" is logged", func() bool { return strings.Contains(out.String(), want) })
	}
}
