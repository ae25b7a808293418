package lb

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
)

// This file's helpers run foreign programs on loopback, or in a host of a lab.

// nginxConf wraps what goes into nginx's http or stream block.
func nginxConf(t testing.TB, dir, block string) string {
	return writeFile(t, dir, "nginx.conf", fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1; user root;
%[3]s
events { worker_connections 20000; }
%[2]s
`, dir, block, nginxModules()))
}

// nginxModules loads stream where it is a dynamic module.
func nginxModules() string {
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		return ""
	}
	return "load_module " + module + ";"
}

// nginxHTTP is an http block that keeps its files in dir.
func nginxHTTP(dir, servers string) string {
	return fmt.Sprintf(`http {
	access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
	uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	%[2]s
}`, dir, servers)
}

// startNginx runs it in h until the test ends.
func startNginx(t testing.TB, h *lab.Host, conf string, ports ...string) {
	t.Helper()
	startPeer(t, h, h.Command("nginx", "-e", filepath.Dir(conf)+"/error.log", "-p", filepath.Dir(conf), "-c", conf), ports...)
}

// startPeer runs c until the test ends, and waits until it listens on the addresses.
func startPeer(t testing.TB, h *lab.Host, c *lab.Cmd, addresses ...string) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			t.Logf("%v:\n%s", c, c.Output())
		}
	})
	for _, address := range addresses {
		waitFor(t, c.String()+" to listen on "+address, func() bool {
			select {
			case <-c.Done():
				t.Fatalf("%v ended:\n%s", c, c.Output())
			default:
			}
			conn, err := h.DialContext(t.Context(), "tcp", address)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
}

func TestNginxAsBackend(t *testing.T) {
	lab.Need(t, "nginx")
	l := lab.New(t)
	app := l.MustHost("app", "192.0.2.42/24")
	balancer := l.MustHost("lb", "192.0.2.40/24")
	client := l.MustHost("client", "192.0.2.9/24")
	dir := t.TempDir()
	servers := ""
	var bs []Backend
	var addresses []string
	for i := range 3 {
		address := fmt.Sprintf("192.0.2.42:808%d", i)
		servers += fmt.Sprintf(`server { listen %s; location / {
			add_header LB_IP $remote_addr; return 200 "app-%d for $http_x_forwarded_for via $http_x_real_ip\n"; } }
		`, address, i+1)
		bs = append(bs, Backend{Address: address})
		addresses = append(addresses, address)
	}
	startNginx(t, app, nginxConf(t, dir, nginxHTTP(dir, servers)), addresses...)

	node{Mode: "http", Listen: "192.0.2.40:8080", Pool: PoolConfig{Backends: bs}}.start(t, balancer)

	tr := &http.Transport{DialContext: client.DialContext}
	defer tr.CloseIdleConnections()
	get := func() (string, string) {
		res, err := (&http.Client{Transport: tr}).Get("http://192.0.2.40:8080/")
		return body(t, res, err), res.Header.Get("LB_IP")
	}
	for i := range 6 {
		got, lbIP := get()
		want := fmt.Sprintf("app-%d for 192.0.2.9 via 192.0.2.9\n", i%3+1)
		if got != want || lbIP != "192.0.2.40" {
			t.Errorf("request %d: %q, LB_IP %q; want %q", i, got, lbIP, want)
		}
	}
}

// Our order is nginx's, asked from nginx itself.
func TestOrderOfARealNginx(t *testing.T) {
	lab.Need(t, "nginx")
	l := lab.New(t)
	host := l.MustHost("nginx", "192.0.2.1/24")
	for _, weights := range [][]int{{5, 1, 1}, {1, 1, 1}, {4, 3, 2, 1}, {1, 5}, {3, 2, 2, 7, 1}} {
		dir := t.TempDir()
		servers, upstream := "", ""
		for i, w := range weights {
			servers += fmt.Sprintf("server { listen 192.0.2.1:%d; location / { return 200 %c; } }\n", 9000+i, 'a'+i)
			upstream += fmt.Sprintf("server 192.0.2.1:%d weight=%d;\n", 9000+i, w)
		}
		conf := nginxConf(t, dir, nginxHTTP(dir, "upstream u {\n"+upstream+"}\n"+servers+
			"server { listen 192.0.2.1:8999; location / { proxy_pass http://u; } }"))
		cmd := host.Command("nginx", "-e", dir+"/error.log", "-p", dir, "-c", conf)
		startPeer(t, host, cmd, "192.0.2.1:8999") // the last to be opened
		p := newPool(t, PoolConfig{Backends: backends(weights...)})
		client := &http.Client{Transport: &http.Transport{DialContext: host.DialContext}}
		var got []string
		for range 25 {
			res, err := client.Get("http://192.0.2.1:8999/")
			got = append(got, body(t, res, err))
		}
		if want := picks(t, p, len(got)); strings.Join(got, " ") != want {
			t.Errorf("weights %v: nginx %v, havip %s", weights, got, want)
		}
		client.CloseIdleConnections()
		cmd.Kill()
	}
}

// start runs n in h until the test ends.
func (n node) start(t testing.TB, h *lab.Host) *lab.Cmd {
	t.Helper()
	return n.startFrom(t, h, "")
}

// startFrom runs n by this test binary, or by another one.
func (n node) startFrom(t testing.TB, h *lab.Host, binary string) *lab.Cmd {
	t.Helper()
	config, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := h.Command(cmp.Or(binary, self))
	c.Env = []string{nodeVar + "=" + string(config)}
	if n.Mode == "udp" { // whoever asks will ask again
		startPeer(t, h, c)
		return c
	}
	startPeer(t, h, c, n.Listen)
	return c
}
