package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// operated is a node that is asked and steered by commands.
type operated struct {
	*reloader
	bin, socket string
	config      string // with the path of the socket and of the state
}

const operatedConfig = `
admin: {socket: %s, state: %s}
checks:
  balancer: {type: tcp, address: "127.0.0.1:8080", interval: 500ms, rise: 1, fall: 2}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 500ms, preempt: false,
     peers: [192.168.31.%d], addresses: [192.168.31.250/24], track: [{check: balancer}]}
services:
  - {name: web, listen: ":8080", mode: http, backends: ["192.168.31.242:8080", "192.168.31.243:8080"]}
`

// startOperated starts the node whose address ends in last.
func startOperated(t *testing.T, h *lab.Host, last, peer, priority int) *operated {
	t.Helper()
	dir := t.TempDir()
	o := &operated{bin: havip(t), socket: filepath.Join(dir, "s")}
	o.config = fmt.Sprintf(operatedConfig, o.socket, filepath.Join(dir, "state"), priority, peer)
	o.reloader = startReloader(t, h, o.config)
	return o
}

// ask runs a command, and returns what it has printed and its exit code.
func (o *operated) ask(args ...string) (text string, code int) {
	o.t.Helper()
	cmd := o.host.Command(o.bin, append(args, "--socket", o.socket)...)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return cmd.Output(), exit.ExitCode()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return cmd.Output(), 0
}

// says runs a command that must end with a code and print some text.
func (o *operated) says(code int, want string, args ...string) string {
	o.t.Helper()
	text, got := o.ask(args...)
	if got != code || !strings.Contains(text, want) {
		o.t.Errorf("%s: havip %s: code %d, want %d, and %q in\n%s", o.host.Name(), strings.Join(args, " "), got, code, want, text)
	}
	return text
}

// await asks until a text comes.
func (o *operated) await(want string, args ...string) {
	o.t.Helper()
	text := ""
	lab.Until(o.t, 30*time.Second, o.host.Name()+": havip "+strings.Join(args, " ")+" says "+want, func() bool {
		text, _ = o.ask(args...)
		return strings.Contains(text, want)
	})
}

// TestCommands is a day of an operator: two nodes are asked and steered by the commands
// alone.
func TestCommands(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	one := startOperated(t, l.MustHost("LB-01", "192.168.31.240/24"), 240, 241, 120)
	// The first one that is ready has the address: neither preempts.
	one.await("ok: 1 of 1 router Active, 1 service with 2 of 2 backends in use", "status", "--quiet")
	two := startOperated(t, l.MustHost("LB-02", "192.168.31.241/24"), 241, 240, 110)
	two.await("ok: 0 of 1 router Active", "status", "--quiet")
	two.await("heard 192.168.31.240, priority 120", "status")
	one.says(0, "VI_1", "explain")
	two.says(0, "VI_1", "explain", "192.168.31.250")
	two.says(1, "192.168.31.250", "explain", "192.168.31.251")
	one.says(0, "Backup -> Active", "events", "--kind", "transition")

	handOver(one, two)
	maintain(one, two)
	changeValues(one)
	reloadByCommand(one)
}

// handOver: only who is Active can resign, and says who has taken over.
func handOver(one, two *operated) {
	two.says(1, "only an Active router can hand over", "resign", "VI_1")
	one.says(1, "VI_1", "resign", "VI_2")
	one.says(0, "192.168.31.241 (priority 110) is Active; VI_1 has been Backup for ", "resign", "VI_1", "--wait")
	two.says(0, "192.168.31.250", "status", "VI_1")
	one.says(0, "resigned", "events", "--kind", "transition", "--since", "1m")
}

// maintain: a maintenance outlives a restart.
func maintain(one, two *operated) {
	two.says(0, "until 'havip maintenance off'", "maintenance", "on", "--reason", "new disks")
	one.await("ok: 1 of 1 router Active", "status", "-q")
	two.await("ok: in maintenance, 0 of 1 router Active", "status", "-q")
	if err := two.cmd.Stop(20 * time.Second); err != nil {
		two.t.Fatal(err)
	}
	two.says(1, "no havip answers", "status")
	two.reloader = startReloader(two.t, two.host, two.config)
	two.await("ok: in maintenance", "status", "-q")
	two.says(0, "new disks", "status")
	two.says(0, "takes part in the election again", "maintenance", "off")
	two.await("Backup", "status", "VI_1")
}

// changeValues changes at run time what the file has, and back.
func changeValues(one *operated) {
	one.says(0, "VI_1 has priority 90", "priority", "VI_1", "90")
	one.await("90 (120)", "status", "VI_1")
	one.says(0, "priority of the file again", "priority", "VI_1", "file")
	one.says(0, "gets no new connections", "drain", "web", "192.168.31.242:8080")
	one.says(0, "draining", "status", "web")
	one.says(1, "192.168.31.243:8080", "drain", "web", "192.168.31.244:8080")
	one.says(0, "gets connections again", "enable", "web", "192.168.31.242:8080")
	one.says(0, "has weight 7", "weight", "web", "192.168.31.243:8080", "7")
	one.says(0, "7 (1)", "status", "web")
	one.says(0, "has the weight of the file again", "weight", "web", "192.168.31.243:8080", "file")
	one.says(0, "balancer is paused", "check", "pause", "balancer")
	one.says(0, "check balancer is paused", "status")
	one.says(0, "balancer probes again", "check", "resume", "balancer")
	one.says(0, "balancer is up: the latest probe took", "check", "now", "balancer")
	one.says(0, "level debug", "log", "level", "debug")
	one.says(0, "log level is debug, and in the file info", "status")
	one.says(0, "level of the file again", "log", "level", "file")
	if text := one.says(0, "havip", "status"); strings.Contains(text, "changed at run time") {
		one.t.Errorf("everything is as the file says again, but\n%s", text)
	}
}

// reloadByCommand says what a reload changes, before and after.
func reloadByCommand(one *operated) {
	one.says(0, "nothing changes", "reload", "--dry-run")
	one.write(strings.Replace(one.config, "priority: 120", "priority: 100", 1))
	one.says(0, "priority: 120 -> 100", "reload", "--dry-run")
	one.says(0, "120", "status", "VI_1")
	one.says(0, "no address moves", "reload")
	one.await(" 100 ", "status", "VI_1")
	one.write(strings.Replace(one.config, "vrid: 51", "vrid: 300", 1))
	one.says(1, "300", "reload")
	one.says(1, "problem: the last reload failed", "status", "--quiet")
	one.says(0, "control", "events", "--kind", "control")
	one.must(one.config)
	one.says(0, "ok: ", "status", "--quiet")
}
