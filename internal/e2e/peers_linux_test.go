package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/scenario"
)

// keepalived is the VRRP half of the reference scenario with the real
// Keepalived. Its check has no weight: with one, and nopreempt, it would not
// move the address at all.
func keepalived(n *scenario.Node, dir string) ([]string, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `global_defs {
	script_user root
	vrrp_version %d
}
vrrp_script check_balancer {
	script "/bin/bash -c '</dev/tcp/127.0.0.1/8080'"
	interval 1
	timeout 1
	fall 2
	rise 1
}
vrrp_instance VI_1 {
	interface eth0
	state BACKUP
	virtual_router_id 51
	priority %d
	advert_int %g
	nopreempt
`, n.Params.Version, n.Priority, n.Params.Interval.Seconds())
	if !n.Params.Multicast {
		fmt.Fprintf(&b, "\tunicast_src_ip %v\n\tunicast_peer {\n\t\t%v\n\t}\n", n.Addr, n.Peer)
	}
	if n.Params.Version == 2 {
		b.WriteString("\tauthentication {\n\t\tauth_type PASS\n\t\tauth_pass d0cker\n\t}\n")
	}
	fmt.Fprintf(&b, "\tvirtual_ipaddress {\n\t\t%v dev eth0\n\t}\n\ttrack_script {\n\t\tcheck_balancer\n\t}\n}\n", scenario.VIP)
	file := filepath.Join(dir, "keepalived.conf")
	return keepalivedCommand(dir, file), os.WriteFile(file, b.Bytes(), 0o600)
}

// keepalivedCommand runs Keepalived in the foreground with everything that it
// writes below dir.
func keepalivedCommand(dir, file string) []string {
	return []string{"keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file=" + file,
		"--pid=" + filepath.Join(dir, "keepalived.pid"), "--vrrp_pid=" + filepath.Join(dir, "vrrp.pid")}
}

// nginxBalancer is the balancing half of the reference scenario with the real
// nginx.
func nginxBalancer(_ *scenario.Node, dir string) ([]string, error) {
	conf := `daemon off;
user root;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	upstream backend-server {
		server 192.168.31.242:8080;
		server 192.168.31.242:8081;
		server 192.168.31.242:8082;
	}
	server {
		listen 8080;
		location / { proxy_pass http://backend-server; }
	}
}
`
	return nginxCommand(dir), os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600)
}

func nginxCommand(dir string) []string {
	return []string{"nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"}
}

// nginxBackends runs the three web servers as one real nginx.
func nginxBackends(h *lab.Host, dir string) error {
	return runNginx(h, dir, `
	add_header LB_IP $remote_addr;
	server { listen 192.168.31.242:8080; return 200 "APP-01\n"; }
	server { listen 192.168.31.242:8081; return 200 "APP-02\n"; }
	server { listen 192.168.31.242:8082; return 200 "APP-03\n"; }`)
}

// runNginx runs an nginx with these servers, whose files are in dir.
func runNginx(h *lab.Host, dir, servers string) error {
	conf := `daemon off;
user root;
worker_processes 1;
error_log stderr warn;
pid nginx-apps.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	default_type text/plain;` + servers + `
}
`
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	argv := nginxCommand(dir)
	cmd := h.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	return cmd.Start()
}
