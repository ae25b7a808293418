package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// TestDryRun: a reload that is only planned opens no socket, makes no FIFO and no folder, runs
// no program, asks no server, and shows no secret. What runs stays as it is, and what the
// reload then says it does is what the plan has said.
func TestDryRun(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	asked := make(chan struct{}, 100)
	server := labtest.Listen(t, func(c net.Conn) { asked <- struct{}{}; c.Close() })
	program := at("program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntouch "+at("ran")+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	port := lab.FreeAddress(t)
	small := smallFile(t)
	next := fmt.Sprintf(`admin: {socket: %s, state: %s}
alarms: [{name: ops, webhook: "http://%s/hush"}]
checks: {tcp: {type: tcp, address: %q, interval: 10ms}, program: {type: exec, command: [%s], interval: 10ms}}
groups: [{name: G, routers: [VI_1], notify_fifo: %s, notify: [%s]}]
vrrp: [{name: VI_1, interface: lo, vrid: 51, addresses: [198.51.100.7/24], version: 2, auth: {type: pass, secret: hush}, track: [{check: tcp}, {check: program}]}]
%s  - {name: more, listen: %q, mode: tcp, backends: [%q], check: {type: tcp, interval: 10ms}}
`, at("socket"), at("state/deep"), server, server, program, at("fifo"), program, strings.Replace(small, "services: [", "services:\n  - ", 1), port, server)
	next = strings.Replace(next, "}]\n  - {name: more", "}\n  - {name: more", 1)
	n := startNode(t, small, here)
	lab.Until(t, bound, "it serves", func() bool { s := n.Status(); return len(s.Services) == 1 && s.Services[0].Serving })
	before := n.Status()
	n.write(next)
	plan, err := n.Reload(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // what should not happen may take a moment
	if names, _ := os.ReadDir(dir); len(names) != 1 || len(asked) != 0 {
		t.Errorf("touched: %v, and a server %d times", names, len(asked))
	}
	if ln, err := net.Listen("tcp", port); err != nil {
		t.Error(err)
	} else {
		ln.Close()
	}
	after := n.Status()
	if len(after.Services) != 1 || after.Node.Loaded != before.Node.Loaded || after.Node.ReloadError != "" {
		t.Errorf("what runs has changed: %+v", after)
	}
	var parts []string
	for _, p := range plan.Parts {
		parts = append(parts, p.Kind+" "+p.Name+" "+p.Fate)
	}
	const want = "router VI_1 is new, group G is new, check tcp is new, check program is new, service more is new, alarm ops is new, admin  changes in place"
	if got := strings.Join(parts, ", "); got != want || plan.Kept != 1 || !plan.DryRun {
		t.Errorf("%s, %d stay, want %s, 1", got, plan.Kept, want)
	}
	if text := fmt.Sprintf("%+v", plan) + report.RenderChange(plan, report.Layout{Width: 100}); strings.Contains(text, "hush") {
		t.Errorf("shows a secret: %s", text)
	}
}
