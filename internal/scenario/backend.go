package scenario

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// serveBackend is one of the three web servers: its page names it, and its
// LB_IP header shows the address that the request came from, which is the
// load balancer's.
func serveBackend(ln net.Listener, name string) *http.Server {
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				host = r.RemoteAddr
			}
			w.Header().Set("LB_IP", host)
			fmt.Fprintf(w, "%s\n", name)
		}),
	}
	go srv.Serve(ln) // ends with the caller's Close
	return srv
}

// NginxBackends is the configuration of one nginx that is all three web
// servers.
func NginxBackends(w io.Writer) {
	fmt.Fprint(w, `daemon off;
user root;
worker_processes 1;
error_log stderr warn;
pid nginx-apps.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
`)
	for i, port := range appPorts {
		fmt.Fprintf(w, `	server {
		listen %s:%d;
		location / { add_header LB_IP $remote_addr; default_type text/plain; return 200 "%s\n"; }
	}
`, appAddr, port, appName(i))
	}
	fmt.Fprint(w, "}\n")
}
