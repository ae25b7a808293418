package e2e

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

var (
	updateStories = flag.Bool("story.update", false, "write what TestStories finds into testdata")
	keepStories   = flag.String("story.keep", "", "write the whole logs of TestStories into this `folder`")
)

// story is something that happens to two nodes, and what their logs say about it.
type story struct {
	name string
	// change is done to LB-02's configuration.
	change *strings.Replacer
	// act has it happen. It is called when both nodes run.
	act func(t *testing.T, p *players)
	// order has what must come first in a log, and what comes of it.
	order []consequence
	// may has parts of lines that depend on what notices first.
	may []string
	// vague: this host has nothing to do with the other one, and may know its
	// addresses or not.
	vague bool
}

type consequence struct {
	node          int // 0 or 1
	cause, effect string
}

// players are the two nodes and what they work with.
type players struct {
	hosts   [2]*lab.Host
	cmds    [2]*lab.Cmd
	local   [2]net.Listener // that the check on the node connects to
	backend [2]net.Listener
	format  string
	// late is the longest time in nanoseconds by which this machine was late, or
	// a change to an interface.
	late atomic.Int64
}

// maxLate is how late a machine may be whose logs are to be as they should: a node that
// stands still for longer has a story of its own.
const maxLate = 500 * time.Millisecond

// watch notes how late this machine is until the test ends.
func (p *players) watch(t *testing.T) {
	note := func(d time.Duration) {
		for now := p.late.Load(); int64(d) > now && !p.late.CompareAndSwap(now, int64(d)); now = p.late.Load() {
		}
	}
	queue, err := watchQueue(t.Context(), p.hosts[0], note)
	if err != nil {
		t.Fatal(err)
	}
	looks := make(chan struct{})
	go func() {
		defer close(looks)
		for last := time.Now(); t.Context().Err() == nil; last = time.Now() {
			time.Sleep(every)
			note(time.Since(last) - every)
		}
	}()
	t.Cleanup(func() { <-queue; <-looks })
}

// said waits until a node's log has lines with all of these.
func (p *players) said(t *testing.T, node int, parts ...string) {
	t.Helper()
	for i := range parts {
		parts[i] = words(p.format, parts[i])
	}
	lab.Eventually(t, 60*time.Second, fmt.Sprintf("LB-%02d says %q", node+1, parts), func() error {
		for line := range strings.Lines(p.cmds[node].Output()) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return nil
			}
		}
		return fmt.Errorf("it has said:\n%s", p.cmds[node].Output())
	})
}

func (p *players) signal(t *testing.T, node int, sig syscall.Signal) {
	t.Helper()
	if err := p.cmds[node].Signal(sig); err != nil {
		t.Fatal(err)
	}
}

const (
	toActive = `"to":"Active"`
	toBackup = `"to":"Backup"`
)

var stories = []story{
	{name: "kill", act: func(t *testing.T, p *players) {
		p.signal(t, 0, syscall.SIGKILL)
		p.said(t, 1, toActive)
	}},
	{name: "freeze", act: func(t *testing.T, p *players) {
		p.signal(t, 0, syscall.SIGSTOP)
		p.said(t, 1, toActive)
		time.Sleep(time.Second)
		p.signal(t, 0, syscall.SIGCONT)
		p.said(t, 1, `"from":"Active"`, toBackup)
	}, order: []consequence{{0, "did not run for too long", "preempting a lower priority"}},
		// The lease is found to have lapsed before or after the next advertisement is due.
		may: []string{"lease lapsed", "another router is Active", "addresses released"}},
	{name: "cut", act: func(t *testing.T, p *players) {
		if err := p.hosts[0].Cut(); err != nil {
			t.Fatal(err)
		}
		p.said(t, 1, toActive)
	}},
	{name: "check fails", act: func(t *testing.T, p *players) {
		p.local[0].Close()
		p.said(t, 1, toActive)
	}, order: []consequence{{0, "check is down", "check balancer is down"}, {0, "check balancer is down", "addresses released"}}},
	{name: "wrong password", change: strings.NewReplacer("secret: d0cker", "secret: docker"),
		order: []consequence{{1, "the passwords differ", toActive}}},
	{name: "wrong peers", change: strings.NewReplacer("peers: [192.168.31.240]", "peers: [192.168.31.249]"),
		vague: true, order: []consequence{{1, "not from a peer", toActive}}},
	{name: "other VRID", change: strings.NewReplacer("vrid: 51", "vrid: 52"),
		order: []consequence{{1, "another VRID", toActive}}},
	{name: "one-way firewall", may: []string{"split: over"}, act: func(t *testing.T, p *players) {
		for _, rule := range []string{"add table ip test", "add chain ip test in { type filter hook input priority 0 ; }", "add rule ip test in ip protocol 112 drop"} {
			if err := p.hosts[1].Command("nft", strings.Fields(rule)...).Run(); err != nil {
				t.Fatal(err)
			}
		}
		p.said(t, 1, toActive)
	}},
	{name: "all backends dead", act: func(t *testing.T, p *players) {
		p.backend[0].Close()
		p.backend[1].Close()
	}, order: []consequence{{0, "check is down", "backend is down"}, {0, "backend is down", "no working backends"}}},
	{name: "stop", act: func(t *testing.T, p *players) {
		if err := p.cmds[0].Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		p.said(t, 1, toActive)
	}},
}

// TestStories: what the logs of both nodes say in ten troubles, as text and as JSON.
// Each file in testdata is meant to be read by somebody who was not told what
// happened. Lines about different things may come in another order than there, but
// for causes, which come first.
func TestStories(t *testing.T) {
	lab.Need(t, "nft")
	for _, s := range stories {
		for _, format := range []string{"text", "json"} {
			t.Run(s.name+"/"+format, func(t *testing.T) {
				t.Parallel()
				for tries := 1; ; tries++ {
					p, err := s.play(t, format)
					late := time.Duration(p.late.Load())
					if err == nil {
						break
					}
					if late < maxLate || tries == 3 {
						t.Fatalf("this machine was late by up to %v: %v", late, err)
					}
				}
			})
		}
	}
}

const storyConfig = `log: {format: %s}
checks:
  balancer: {type: tcp, address: "127.0.0.1:8081", interval: 500ms, timeout: 400ms, fall: 2, rise: 2}
vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    version: 2
    priority: %d
    peers: [192.168.31.%d]
    auth: {type: pass, secret: d0cker}
    addresses: [192.168.31.250/24]
    track: [{check: balancer}]
services:
  - name: web
    listen: ":8080"
    mode: http
    backends: ["192.168.31.242:8080", "192.168.31.243:8080"]
    check: {type: tcp, interval: 500ms, timeout: 400ms, fall: 2, rise: 2}
`

// play returns an error if the logs are not what the files have.
func (s *story) play(t *testing.T, format string) (*players, error) {
	l, exe := lab.New(t), havip(t)
	p := &players{format: format}
	for i := range p.backend {
		p.backend[i] = mustListen(t, l.MustHost(fmt.Sprintf("app%d", i+1), fmt.Sprintf("192.168.31.%d/24", 242+i)), ":8080")
		labtest.Serve(t, p.backend[i], labtest.EchoLines("app"))
	}
	for i := range p.hosts {
		p.hosts[i] = l.MustHost(fmt.Sprintf("lb%02d", i+1), fmt.Sprintf("192.168.31.%d/24", 240+i))
		if i == 0 {
			p.watch(t)
		}
		p.local[i] = mustListen(t, p.hosts[i], "127.0.0.1:8081")
		labtest.Serve(t, p.local[i], labtest.EchoLines("local"))
		config := fmt.Sprintf(storyConfig, format, 120-10*i, 241-i)
		if i == 1 && s.change != nil {
			config = s.change.Replace(config)
		}
		file := filepath.Join(t.TempDir(), "havip.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		p.cmds[i] = p.hosts[i].Command(exe, "run", "-c", file)
		if err := p.cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			p.said(t, 0, toActive)
		} else if s.change == nil {
			p.said(t, 1, "another router is Active")
		}
	}
	for i := range p.cmds {
		p.said(t, i, "check is up", "/192.168.31.242:8080")
		p.said(t, i, "check is up", "/192.168.31.243:8080")
	}
	if s.act != nil {
		s.act(t, p)
	}
	err := s.compare(t, p, format)
	for _, cmd := range p.cmds {
		_ = cmd.Signal(syscall.SIGKILL)
	}
	return p, err
}

// words is a part of a line in JSON, in the other format.
func words(format, part string) string {
	if format == "json" {
		return part
	}
	return strings.NewReplacer(`":"`, "=", `"`, "").Replace(part)
}

// compare waits until the logs are what the files have.
func (s *story) compare(t *testing.T, p *players, format string) error {
	base := filepath.Join("testdata", "stories", strings.ReplaceAll(s.name, " ", "-"))
	if *updateStories {
		time.Sleep(15 * time.Second)
	}
	for i, cmd := range p.cmds {
		file := fmt.Sprintf("%s.lb%02d.%s", base, i+1, format)
		if *updateStories {
			if err := os.WriteFile(file, []byte(steady(cmd.Output())), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		diff := "unknown"
		for end := time.Now().Add(60 * time.Second); diff != ""; time.Sleep(10 * time.Millisecond) {
			if diff = cmp.Diff(s.bySubject(string(want)), s.bySubject(steady(cmd.Output()))); diff != "" && time.Now().After(end) {
				return fmt.Errorf("%s: the log is another one (-want +got), see -story.update:\n%s\n%s", file, diff, cmd.Output())
			}
		}
	}
	for i, cmd := range p.cmds {
		if *keepStories == "" {
			break
		}
		file := filepath.Join(*keepStories, fmt.Sprintf("%s.lb%02d.%s", filepath.Base(base), i+1, format))
		if err := os.WriteFile(file, []byte(cmd.Output()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range s.order {
		out := steady(p.cmds[c.node].Output())
		cause, effect := strings.Index(out, words(format, c.cause)), strings.Index(out, words(format, c.effect))
		if cause < 0 || effect < cause {
			return fmt.Errorf("LB-%02d says %q, which is the cause, at %d, and %q at %d of\n%s", c.node+1, c.cause, cause, c.effect, effect, out)
		}
	}
	return nil
}

// unsteady is what differs from one run to the next.
var unsteady = []struct {
	is *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`"time":"[^"]*",`), ""},
	{regexp.MustCompile(`time=\S+ `), ""},
	{regexp.MustCompile(`((?:took|latency|overlap|after)"?[=:]"?)[0-9.a-zµ]+`), "${1}T"},
	{regexp.MustCompile(`((?:last_heard|left)"?[=:]"?)[0-9.]+m?s ago`), "${1}T ago"},
	{regexp.MustCompile(`(pid"?[=:])[0-9]+`), "${1}N"},
	{regexp.MustCompile(`(not renewed for )[0-9.]+m?s`), "${1}T"},
	{regexp.MustCompile(`(\b(?:discarded|times|conflicts|up)"?[=:])[0-9]+`), "${1}N"},
	{regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`), "MAC"},
}

// waited is what a router says at its start if its check has no result yet.
var waited = regexp.MustCompile(`.*has no result yet.*\n`)

// steady is a log without that.
func steady(log string) string {
	log = waited.ReplaceAllString(log, "")
	for _, u := range unsteady {
		log = u.is.ReplaceAllString(log, u.by)
	}
	return log
}

var (
	subject = regexp.MustCompile(`(router|check|pool|backend|service)"?[=:]"?[^" ]+`)
	begun   = regexp.MustCompile(`cause"?[=:]"?start`)
	known   = regexp.MustCompile(` host=\[[^]]*\]|"host":\[[^]]*\],`)
)

// bySubject has the lines of a log by what they are about, in their order.
func (s *story) bySubject(log string) map[string][]string {
	lines := map[string][]string{}
	for line := range strings.Lines(log) {
		if slices.ContainsFunc(s.may, func(part string) bool { return strings.Contains(line, part) }) {
			continue
		}
		if s.vague {
			line = known.ReplaceAllString(line, "")
		}
		about := strings.Join(subject.FindAllString(line, -1), " ")
		if begun.MatchString(line) {
			about = "start" // an advertisement may come before the first result of the check
		}
		lines[about] = append(lines[about], strings.TrimSuffix(line, "\n"))
	}
	return lines
}
