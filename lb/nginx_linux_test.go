package lb

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// besideNginx runs the real nginx on loopback until the test ends, and returns its address.
//
// config is what goes into its server block, or one or more whole blocks that say
// "listen LISTEN;". The backends are the upstream "backends". Files that config names lie in
// folders of the test's own.
func besideNginx(t *testing.T, config string, backends ...Backend) (address string) {
	t.Helper()
	lab.Need(t, "nginx")
	dir := nginxDir(t)
	address = lab.FreeAddress(t)
	if !strings.Contains(config, "LISTEN") {
		config = "server { listen LISTEN; " + config + "\n}"
	}
	block := ""
	if len(backends) > 0 {
		block = "upstream backends {"
		for _, b := range backends {
			block += " server " + b.Address + ";"
		}
		block += " }\n"
	}
	block += strings.ReplaceAll(config, "LISTEN", address)
	conf := nginxConf(t, dir, nginxHTTP(dir, block))
	runNginx(t, dir, "-e", dir+"/error.log", "-p", dir, "-c", conf)
	waitFor(t, "nginx to listen on "+address, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// nginxDir is a folder for nginx. Its path is short, and free of what nginx's configuration
// takes for syntax, which the names of tests are not.
func nginxDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nginx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// runNginx runs it until the test ends, and not longer than this process.
func runNginx(t *testing.T, dir string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // where not every user's PATH looks
	}
	c := exec.Command(path, args...)
	output := new(strings.Builder)
	c.Stdout, c.Stderr, c.WaitDelay = output, output, time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the end of the thread is what Pdeathsig tells of
		defer runtime.UnlockOSThread()
		err := c.Start()
		started <- err
		if err == nil {
			_ = c.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx:\n%s%s", output, log)
		}
	})
}

// TestBesideNginx: nginx and all fronts are asked the same, and the answers can be compared.
func TestBesideNginx(t *testing.T) {
	b := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Way"] = []string{"a", "b"}
		fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Header["X-Sent"], r.Header["Accept-Encoding"])
	})
	address := besideNginx(t, `location = /here { return 404 "none"; }
		location / { proxy_pass http://backends; }`, b)
	fronts := trapFronts()
	sites := make([]*trapSite, len(fronts))
	for i, front := range fronts {
		sites[i] = front.serve(t, HandlerConfig{}, b)
	}
	for request, want := range map[string]string{
		"GET /a%2fb?c=%41 HTTP/1.1\r\nHost: x\r\nX-Sent: y\r\n\r\n":             "200\nX-Way: a + b\nX-None: -\nGET /a%2fb?c=%41 [y] []",
		"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n":                                    "200\nX-Way: a + b\nX-None: -\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":            "200\nX-Way: a + b\nX-None: -\nPOST / [] []",
		"GET / HTTP/1.1\r\nHost: x\r\nX-Sent: 1\r\nAccept-Encoding: br\r\n\r\n": "200\nX-Way: a + b\nX-None: -\nGET / [1] [br]",
	} {
		if got := askRaw(t, address, request, "X-Way", "X-None"); got != want {
			t.Errorf("nginx, %q: %q, want %q", request, got, want)
		}
		for i, s := range sites {
			if got := s.askRaw(t, request, "X-Way", "X-None"); got != want {
				t.Errorf("%s, %q: %q, want %q", fronts[i].name, request, got, want)
			}
		}
	}
	if got, want := askRaw(t, address, "GET /here HTTP/1.1\r\nHost: x\r\n\r\n"), "404\nnone"; got != want {
		t.Errorf("nginx by itself: %q, want %q", got, want)
	}
}
