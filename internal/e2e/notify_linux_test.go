package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// The script of these tests notes its arguments, for each thing that it is told
// of in a file of its own. It is written for Keepalived, and starts a daemon
// of its own, too, in the way that works there: with its output where
// Keepalived put it.
const notifyScript = `#!/bin/sh
cd "${0%/*}" || exit 1
echo "$0 $*" >> "told.$1.$2"
if [ "$3" = MASTER ] && [ ! -e daemon ]; then
	: > daemon
	(until [ -e go ]; do sleep 0.1; done; echo "started for $2"; echo "still here" >&2; : > survived) &
fi
`

// notifyNode is a host whose daemon runs the script.
type notifyNode struct {
	t    *testing.T
	host *lab.Host
	dir  string
	flag string // while this file exists the check succeeds
	cmd  *lab.Cmd
}

// startNotifyNode starts what configure returns the command line of.
func startNotifyNode(t *testing.T, configure func(n *notifyNode) (argv []string, file, text string)) *notifyNode {
	t.Helper()
	dir := t.TempDir()
	n := &notifyNode{t: t, host: lab.New(t).MustHost("lb01", "192.168.31.240/24"), dir: dir, flag: filepath.Join(dir, "flag")}
	argv, file, text := configure(n)
	for name, text := range map[string]string{file: text, n.path("notify.sh"): notifyScript, n.flag: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(n.path("notify.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.cmd = n.host.Command(argv[0], argv[1:]...)
	n.cmd.Dir, n.cmd.Private = dir, true
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *notifyNode) path(name string) string { return filepath.Join(n.dir, name) }

// told is what the script was told of an instance or a group, without the
// directory.
func (n *notifyNode) told(what string) []string {
	b, err := os.ReadFile(n.path("told." + what))
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), n.dir+"/", "")), "\n")
}

// heard waits until the last thing told is that.
func (n *notifyNode) heard(what, state string) {
	n.t.Helper()
	lab.Eventually(n.t, 60*time.Second, what+" is told "+state, func() error {
		list := n.told(what)
		if !slices.Contains(strings.Fields(list[len(list)-1]), state) {
			return fmt.Errorf("told %q", list)
		}
		return nil
	})
}

func havipNotify(exe string) func(*notifyNode) ([]string, string, string) {
	return func(n *notifyNode) ([]string, string, string) {
		script, file := n.path("notify.sh"), n.path("havip.yaml")
		return []string{exe, "run", "-c", file}, file, fmt.Sprintf(`checks:
  flag: {type: exec, command: [/usr/bin/test, -e, %s], rise: 1, fall: 1}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, priority: 120, version: 2, preempt: false, addresses: [192.168.31.250/24],
     track: [{check: flag}], notify: [%s, {command: [%s, own, master], on: [master]}, {command: [%[2]s, own, stop], on: [stop]}]}
  - {name: VI_2, interface: eth0, vrid: 52, priority: 110, version: 2, preempt: false, addresses: [192.168.31.251/24], notify: [%[2]s]}
groups:
  - {name: G1, routers: [VI_1, VI_2], notify: [%[2]s]}
`, n.flag, script, script)
	}
}

func keepalivedNotify(n *notifyNode) ([]string, string, string) {
	script, file := n.path("notify.sh"), n.path("keepalived.conf")
	instance := func(name string, vrid, priority, last int, more string) string {
		return fmt.Sprintf(`vrrp_instance %s {
	interface eth0
	state BACKUP
	virtual_router_id %d
	priority %d
	advert_int 1
	nopreempt
	virtual_ipaddress {
		192.168.31.%d/24
	}
	notify %s
%s}
`, name, vrid, priority, last, script, more)
	}
	return keepalivedCommand(n.dir, file), file, fmt.Sprintf(`global_defs {
	script_user root
	vrrp_version 2
}
vrrp_script flag {
	script "/usr/bin/test -e %s"
	interval 1
	timeout 1
	fall 1
	rise 1
}
vrrp_sync_group G1 {
	group {
		VI_1
		VI_2
	}
	notify %s
}
`, n.flag, script) + instance("VI_1", 51, 120, 250, fmt.Sprintf(`	track_script {
		flag
	}
	notify_master "%s own master"
	notify_stop "%[1]s own stop"
`, script)) + instance("VI_2", 52, 110, 251, "")
}

// TestNotifyScriptUnchanged: one and the same script, run by Keepalived and by
// havip, is told the same in the same order from the start to the end, and the
// daemon that it starts survives.
func TestNotifyScriptUnchanged(t *testing.T) {
	t.Parallel()
	lab.NeedRoot(t)
	lab.Need(t, "keepalived")
	exe := havip(t)
	listeners := []string{"INSTANCE.VI_1", "INSTANCE.VI_2", "GROUP.G1", "own.master", "own.stop"}
	told := make(map[string]map[string][]string)
	for name, configure := range map[string]func(*notifyNode) ([]string, string, string){
		"havip": havipNotify(exe), "keepalived": keepalivedNotify,
	} {
		n := startNotifyNode(t, configure)
		all := func(state string) {
			for _, what := range listeners[:3] {
				n.heard(what, state)
			}
		}
		all("MASTER")
		if err := os.Remove(n.flag); err != nil {
			t.Fatal(err)
		}
		all("FAULT")
		if err := os.WriteFile(n.flag, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		all("MASTER")
		if err := os.WriteFile(n.path("go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Until(t, 30*time.Second, name+": the daemon of the script survives its first line", func() bool {
			_, err := os.Stat(n.path("survived"))
			return err == nil
		})
		if err := n.cmd.Stop(30 * time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all("STOP")
		n.heard("own.stop", "stop")
		told[name] = make(map[string][]string)
		for _, what := range listeners {
			told[name][what] = n.told(what)
		}
	}
	for _, what := range listeners {
		t.Logf("%s: %q", what, told["keepalived"][what])
		if got, want := told["havip"][what], told["keepalived"][what]; !slices.Equal(got, want) {
			t.Errorf("%s: havip tells\n%s\nand keepalived\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestHealthOnTheBackup: the node that does not have the addresses probes the
// backends too, so that it knows which are alive when it takes over.
func TestHealthOnTheBackup(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	l := lab.New(t)
	nodes := [2]*lab.Host{l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("lb02", "192.168.31.241/24")}
	app := l.MustHost("app", "192.168.31.242/24")
	alive, err := app.Listen("tcp", "192.168.31.242:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	var cmds [2]*lab.Cmd
	for i, h := range nodes {
		file := filepath.Join(t.TempDir(), "havip.yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, `vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, addresses: [192.168.31.250/24]}
services:
  - {name: web, listen: ":8080", mode: tcp, backends: ["192.168.31.242:8080", "192.168.31.242:8081"], check: {type: tcp, interval: 100ms}}
`, 120-10*i), 0o600); err != nil {
			t.Fatal(err)
		}
		cmds[i] = h.Command(exe, "run", "-c", file)
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
		state := []string{"to=Active", "to=Backup"}[i]
		lab.Until(t, 30*time.Second, "LB-0"+fmt.Sprint(i+1)+" says "+state, func() bool { return strings.Contains(cmds[i].Output(), state) })
	}
	backup := cmds[1]
	says := func(address, state string) bool {
		for line := range strings.Lines(backup.Output()) {
			if strings.Contains(line, "check is "+state) && strings.Contains(line, address) {
				return true
			}
		}
		return false
	}
	lab.Until(t, 30*time.Second, "the Backup knows both backends", func() bool {
		return says("192.168.31.242:8080", "up") && says("192.168.31.242:8081", "down")
	})
	alive.Close()
	lab.Until(t, 30*time.Second, "the Backup notices a failure", func() bool { return says("192.168.31.242:8080", "down") })
	if strings.Contains(backup.Output(), "to=Active") {
		t.Errorf("it was not Backup all the time:\n%s", backup.Output())
	}
}

// TestStartIsNoFault: a router whose checks have no result yet, and then good
// ones, never tells of a fault; one whose first result is bad does.
func TestStartIsNoFault(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	for name, want := range map[string][]string{
		"good": {"notify.sh INSTANCE VI_1 BACKUP 120", "notify.sh INSTANCE VI_1 MASTER 120"},
		"bad":  {"notify.sh INSTANCE VI_1 FAULT 120"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNotifyNode(t, func(n *notifyNode) ([]string, string, string) {
				file := n.path("havip.yaml")
				return []string{exe, "run", "-c", file}, file, fmt.Sprintf(`checks:
  slow: {type: exec, command: [/bin/sh, -c, "until [ -e %s ]; do sleep 0.1; done; [ -e %s ]"], interval: 1m, timeout: 1m}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, priority: 120, interval: 100ms, addresses: [192.168.31.250/24], track: [{check: slow}], notify: [%s]}
`, n.path("go"), n.path(map[string]string{"good": "flag", "bad": "none"}[name]), n.path("notify.sh"))
			})
			lab.Until(t, 30*time.Second, "the router waits for its check", func() bool { return strings.Contains(n.cmd.Output(), "no result yet") })
			if err := os.WriteFile(n.path("go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, 30*time.Second, "it is told what becomes of it", func() error {
				if got := n.told("INSTANCE.VI_1"); !slices.Equal(got, want) {
					return fmt.Errorf("told %q, want %q", got, want)
				}
				return nil
			})
			if err := n.cmd.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			n.heard("INSTANCE.VI_1", "STOP")
		})
	}
}
