//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
)

// withPrograms is a configuration with one missing program for each that may
// name one.
const withPrograms = `checks:
  good: {type: exec, command: [/bin/true]}
  gone: {type: exec, command: [/no/such/check, -v], user: root, directory: /tmp}
  web: {type: tcp, address: "127.0.0.1:1"}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, addresses: [192.0.2.1/24], notify: [/no/such/notify, /bin/true, {command: [/no/such/notify], on: [master]}]}
  - {name: VI_2, interface: eth0, vrid: 52, addresses: [192.0.2.2/24], notify: [/no/such/notify], notify_user: root}
groups:
  - {name: G1, routers: [VI_1, VI_2], notify: [/no/such/group]}
`

// unready is what is said of programs on the way from one configuration to the
// next: level, whose and which.
func unready(before, next *config.Config) []string {
	var log labtest.Log
	sayUnready(slog.New(slog.NewTextHandler(&log, nil)), before, next)
	var said []string
	for line := range strings.Lines(log.String()) {
		var words []string
		for _, word := range strings.Fields(line) {
			key, value, ok := strings.Cut(word, "=")
			if ok && slices.Contains([]string{"level", "check", "router", "group", "program"}, key) {
				words = append(words, value)
			}
		}
		said = append(said, strings.Join(words, " "))
	}
	return said
}

// TestUnreadyProgramsAreLoggedAtOnce: every program that cannot be run is named
// once, with whose it is, when the configuration comes, and not again with each
// reload.
func TestUnreadyProgramsAreLoggedAtOnce(t *testing.T) {
	none, cfg := &config.Config{}, parse(t, withPrograms)
	want := []string{"ERROR gone /no/such/check", "ERROR VI_1 /no/such/notify", "ERROR VI_2 /no/such/notify", "ERROR G1 /no/such/group"}
	if got := unready(none, cfg); !slices.Equal(got, want) {
		t.Errorf("at the start: %q, want %q", got, want)
	}
	if got := unready(cfg, parse(t, "# elsewhere\n"+withPrograms)); len(got) != 0 {
		t.Errorf("said again without a change: %q", got)
	}
	edited := parse(t, strings.ReplaceAll(withPrograms, "/no/such/group", "/no/other/group"))
	if got, want := unready(cfg, edited), []string{"ERROR G1 /no/other/group"}; !slices.Equal(got, want) {
		t.Errorf("after a change: %q, want %q", got, want)
	}
}

// TestStartWithUnreadyProgram: the daemon starts, says which program is missing,
// has that check down with the reason, and goes on with the others; what is put
// right meanwhile is run.
func TestStartWithUnreadyProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "check.sh")
	var log labtest.Log
	d, err := New(parse(t, fmt.Sprintf(`checks:
  good: {type: exec, command: [/bin/true], interval: 50ms, timeout: 50ms, fall: 100}
  late: {type: exec, command: [%s], interval: 10ms, timeout: 10s, long_timeout: true}
services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:1"]}]
`, path, freePort(t))), slog.New(slog.NewTextHandler(&log, nil)), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-d.started
	is := func(name string, want healthcheck.State) {
		t.Helper()
		until(t, fmt.Sprintf("check %s is %v", name, want), func() bool { return d.checks[name].monitor.Status().State == want })
	}
	is("good", healthcheck.Up)
	is("late", healthcheck.Down)
	if s := d.checks["late"].monitor.Status(); !errors.Is(s.Err, healthcheck.ErrCannotRun) {
		t.Errorf("the check is down by %v", s.Err)
	}
	until(t, "the program is named", func() bool {
		return strings.Contains(log.String(), "level=ERROR msg=\"program of a check cannot be run\" check=late program="+path)
	})
	if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	is("late", healthcheck.Up)
}

// TestNotifyIsLookedAtAgain: a program that was missing at the start is told
// once it is there.
func TestNotifyIsLookedAtAgain(t *testing.T) {
	n := startNotifier(t, 0)
	path := filepath.Join(n.dir, "script")
	cfg := notifyConfig{Listeners: config.Listeners{Notify: []config.Notify{{Command: []string{path, n.dir}}}, NotifyTimeout: time.Hour}}
	n.reconfigure(cfg)
	n.send(notice{state: "BACKUP"})
	n.busy.Wait()
	if !strings.Contains(n.log.String(), path) {
		t.Errorf("nothing is said of a missing program: %s", n.log.String())
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho $4 >> $1/log\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.send(notice{state: "MASTER"})
	n.says("log", "MASTER\n")
}
