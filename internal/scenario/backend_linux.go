package scenario

import (
	"fmt"
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
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			w.Header().Set("LB_IP", host)
			fmt.Fprintf(w, "%s\n", name)
		}),
	}
	go srv.Serve(ln) // ends with the caller's Close
	return srv
}
