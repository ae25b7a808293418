package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
)

// TestRoutesAreCounted: each request counts for its route and the class of its status, whatever
// reloads there are. A route that has gone is not shown.
func TestRoutesAreCounted(t *testing.T) {
	port, next := freePort(t), freePort(t)
	text := func(port, routes string) string {
		return fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["%s"]%s}]`, port, "127.0.0.1:9", routes)
	}
	const (
		both = `, routes: [{name: a, paths: [/a], http: {answer: {status: 200}}}, {name: b, paths: [/b], http: {answer: {status: 404}}}]`
		one  = `, routes: [{name: a, paths: [/a, /b], http: {answer: {status: 201}}}]`
	)
	d := startLogging(t, text(port, both), slog.New(slog.DiscardHandler))
	until(t, "the service is there", func() bool { return d.View().Services[0].Serving() })
	c := newKeptClient(t, port)
	wants := func(want map[string]RouteTally) {
		t.Helper()
		until(t, fmt.Sprint("the counts are ", want), func() bool { return maps.Equal(d.View().Services[0].Routes(), want) })
	}
	wants(map[string]RouteTally{"": {}, "a": {}, "b": {}})
	for _, path := range []string{"/a", "/a/1", "/b", "/"} {
		c.ask(t, path)
	}
	wants(map[string]RouteTally{"": {5: 1}, "a": {2: 2}, "b": {4: 1}})
	mustReload(t, d, text(port, one))
	c.ask(t, "/b")
	wants(map[string]RouteTally{"": {5: 1}, "a": {2: 3}})
	mustReload(t, d, text(next, both)) // another plane
	until(t, "the service is there", func() bool { return d.View().Services[0].Serving() })
	newKeptClient(t, next).ask(t, "/b")
	wants(map[string]RouteTally{"": {5: 1}, "a": {2: 3}, "b": {4: 2}})
	mustReload(t, d, text(next, ""))
	if got := d.View().Services[0].Routes(); got != nil {
		t.Errorf("%v of a service without routes", got)
	}
}

// TestRoutesCostNothing: a service without routes counts none, and what counts allocates nothing.
func TestRoutesCostNothing(t *testing.T) {
	const with = `services: [{name: a, listen: ":80", mode: %s, backends: ["192.0.2.1:80"], routes: [{name: r, %s, backends: ["192.0.2.2:80"]}]}]`
	for file, counts := range map[string]bool{
		fmt.Sprintf(with, "http", "paths: [/]"):                                        true,
		fmt.Sprintf(with, "tcp", "server_names: [a.org]"):                              false,
		`services: [{name: a, listen: ":80", mode: http, backends: ["192.0.2.1:80"]}]`: false,
	} {
		var sum tally
		record := (&Daemon{}).recorder(parse(t, file).Services[0], &sum, new(lines))
		r := lb.Record{Status: 200, HTTP: &lb.RequestRecord{Route: "r"}}
		if n := testing.AllocsPerRun(100, func() { record(r) }); n != 0 {
			t.Errorf("%s: %v allocations a record, want none", file, n)
		}
		if got := sum.routes.total(); (got != nil) != counts || got["r"][2] != 0 != counts {
			t.Errorf("%s: %v", file, got)
		}
	}
}

// TestRouteNamesAreBounded: names that change with each reload do not fill the memory, and those
// that are there keep their counts.
func TestRouteNamesAreBounded(t *testing.T) {
	var sum routeTallies
	cfg := config.Service{Mode: "http", Routes: []config.ServiceRoute{{Name: "stays"}, {}}}
	for i := range 3 * maxAbsent {
		cfg.Routes[1].Name = fmt.Sprint(i)
		sum.of(cfg)["stays"][2].Add(1)
		if n := len(sum.all); n > 2*maxAbsent {
			t.Fatalf("%d names", n)
		}
	}
	if got := sum.total()["stays"]; got != (RouteTally{2: 3 * maxAbsent}) {
		t.Errorf("%v", got)
	}
}
