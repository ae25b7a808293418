package admin

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// profileTimeout is for the longest profile.
const profileTimeout = 2 * time.Minute

// profileRoutes are those of net/http/pprof, for who may steer, if the file asks for them.
func (s *Server) profileRoutes() []route {
	row := func(pattern, summary string, h http.HandlerFunc) route {
		return route{method: "GET", pattern: pattern, summary: summary, steers: true, kind: "application/octet-stream", raw: func(c *call) error {
			if !c.set.PProf {
				return failf(http.StatusNotFound, "no profiles: set admin.pprof: true in the file")
			}
			c.takes(profileTimeout)
			c.sent = true
			h(c.w, c.r)
			return nil
		}}
	}
	return []route{
		row("/debug/pprof/cmdline", "The command line of the process.", pprof.Cmdline),
		row("/debug/pprof/profile", "What the processors do, for ?seconds=N.", pprof.Profile),
		row("/debug/pprof/trace", "A trace of the execution, for ?seconds=N.", pprof.Trace),
		row("/debug/pprof/symbol", "Functions at addresses.", pprof.Symbol),
		row("/debug/pprof/{profile}", "goroutine, heap, allocs, block, mutex, threadcreate; ?debug=1 as text.", pprof.Index),
	}
}
