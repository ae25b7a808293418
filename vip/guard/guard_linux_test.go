package guard_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// start runs a guarded program in a host with a neighbour, and waits until it
// holds its addresses. c records VRRP on the wire.
func start(t *testing.T, role string, env ...string) (h *lab.Host, p *lab.Cmd, c *lab.Capture) {
	t.Helper()
	l := lab.New(t)
	h = l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	if c, err = lan.Capture(lab.Protocol(112)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p = h.Command(self)
	p.Env = append(env, "GUARD_TEST_ROLE="+role)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the program is ready", func() bool { return strings.Contains(p.Output(), "ready <nil>") })
	return h, p, c
}

// switches counts how often the guard of a process gave up the processor.
func switches(t *testing.T, parent int) (n int) {
	t.Helper()
	pid := guardOf(t, parent)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
		_, after, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(after, "\n")
		count, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		n += count
	}
	return n
}

// guardOf returns the process id of the guard of a program.
func guardOf(t *testing.T, parent int) int {
	t.Helper()
	for _, f := range strings.Fields(allChildren(parent)) {
		pid, _ := strconv.Atoi(f)
		if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.HasPrefix(cmd, []byte("havip-guard")) {
			return pid
		}
	}
	t.Fatalf("no guard among the children of %d", parent)
	return 0
}

// allChildren lists the children of all threads of a process.
func allChildren(pid int) string {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	out := ""
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		out += " " + string(b)
	}
	return out
}

// silent checks that nothing was sent so far: a packet that is sent now is the
// first that c has recorded.
func silent(t *testing.T, h *lab.Host, c *lab.Capture) {
	t.Helper()
	conn, err := h.ListenPacket("ip4:112", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	marker := []byte("marker")
	if _, err := conn.WriteTo(marker, &net.IPAddr{IP: net.ParseIP("192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the marker is on the wire", func() bool { return len(c.Packets()) > 0 })
	if _, dst, _, payload, _ := c.Packets()[0].IP(); !bytes.HasPrefix(payload, marker) {
		t.Errorf("the guard has sent a packet to %v: %x", dst, payload)
	}
}

// wantWillDone waits until the addresses are gone and the packets are sent.
func wantWillDone(t *testing.T, h *lab.Host, c *lab.Capture, died time.Time) {
	t.Helper()
	lab.Until(t, 10*time.Second, "the addresses are gone", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(vip6))
	})
	want := []string{"224.0.0.18", "192.0.2.2", "ff02::12", "2001:db8::2"}
	lab.Until(t, 10*time.Second, "the packets are on the wire", func() bool { return len(c.Packets()) >= len(want) })
	for i, f := range c.Packets() {
		src, dst, _, payload, _ := f.IP()
		ttl := f.Data[14+8]
		body := farewell4
		if src.Is6() {
			ttl, body = f.Data[14+7], farewell6
		}
		if i >= len(want) || dst.String() != want[i] || ttl != 255 || !bytes.Equal(payload, body) {
			t.Errorf("packet %d to %v, TTL %d: %x", i, dst, ttl, payload)
		}
	}
	t.Logf("addresses gone and last packet sent %v after the death", c.Packets()[len(want)-1].Time.Sub(died).Round(10*time.Microsecond))
	out, err := h.Netlink().RouteList(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out {
		if r.Protocol == 112 {
			t.Errorf("route %v is left", r)
		}
	}
}

func TestLastWill(t *testing.T) {
	for name, die := range map[string]func(p *lab.Cmd) error{
		"SIGKILL":                     func(p *lab.Cmd) error { return syscall.Kill(p.Pid(), syscall.SIGKILL) },
		"SIGKILL of the group":        func(p *lab.Cmd) error { return syscall.Kill(-p.Pid(), syscall.SIGKILL) },
		"SIGQUIT, a crash with stack": func(p *lab.Cmd) error { return syscall.Kill(p.Pid(), syscall.SIGQUIT) },
		"SIGSEGV":                     func(p *lab.Cmd) error { return syscall.Kill(p.Pid(), syscall.SIGSEGV) },
	} {
		t.Run(name, func(t *testing.T) {
			h, p, c := start(t, "hold")
			if !h.Holds(netip.MustParseAddr(vip4)) || !h.Holds(netip.MustParseAddr(vip6)) {
				t.Fatal("the addresses are not there to begin with")
			}
			died := time.Now()
			if err := die(p); err != nil {
				t.Fatal(err)
			}
			wantWillDone(t, h, c, died)
		})
	}
	for _, role := range []string{"panic", "exit"} {
		t.Run(role, func(t *testing.T) {
			h, _, c := start(t, role)
			wantWillDone(t, h, c, time.Now())
		})
	}
}

// TestLastWords: the guard tells in the form of the program's log, once, whose
// addresses it has removed and who said goodbye.
func TestLastWords(t *testing.T) {
	for role, want := range map[string]*regexp.Regexp{
		"hold": regexp.MustCompile(`^time=\S+ level=ERROR msg="guard: the guarded process has died: its addresses are removed" pid=\d+ removed="\[router 51\]" goodbye="\[router 51\]" hint="[^"]+" took=\S+\n$`),
		formed: regexp.MustCompile(`^\{"time":"[^"]+","level":"ERROR","msg":"guard: the guarded process has died: its addresses are removed","form":"quoted","pid":\d+,"removed":\["router 51"\],"goodbye":\["router 51"\],"hint":"[^"]+","took":\d+\}\n$`),
	} {
		t.Run(role, func(t *testing.T) {
			words := filepath.Join(t.TempDir(), "stderr")
			if err := os.WriteFile(words, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, p, _ := start(t, role, stderr+"="+words)
			if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			said := func() string { b, _ := os.ReadFile(words); return string(b) }
			lab.Until(t, 10*time.Second, "the guard has spoken", func() bool { return strings.HasSuffix(said(), "\n") })
			if !want.MatchString(said()) {
				t.Errorf("the guard says\n%swant\n%v", said(), want)
			}
		})
	}
}

// TestLastWordsOfABackup: where there was no address, none was removed.
func TestLastWordsOfABackup(t *testing.T) {
	words := filepath.Join(t.TempDir(), "stderr")
	if err := os.WriteFile(words, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, p, _ := start(t, "hold", stderr+"="+words)
	if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil { // it would put them back
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{vip4 + "/24", vip6 + "/64"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Netlink().AddrDel(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	said := func() string { b, _ := os.ReadFile(words); return string(b) }
	lab.Until(t, 10*time.Second, "the guard has spoken", func() bool { return strings.HasSuffix(said(), "\n") })
	if !strings.Contains(said(), `msg="guard: the guarded process has died: it held no address" pid=`+strconv.Itoa(p.Pid())+` goodbye="[router 51]"`) {
		t.Errorf("the guard says %s", said())
	}
}

// TestUnreadOutput: a guard whose words nobody reads does its work, and ends.
func TestUnreadOutput(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "stderr")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(fifo, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // a reader that never reads
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	h, p, c := start(t, "hold", stderr+"="+fifo)
	pid := guardOf(t, p.Pid())
	died := time.Now()
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantWillDone(t, h, c, died)
	lab.Until(t, 10*time.Second, "the guard ends", func() bool {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return len(cmd) == 0 // gone, or about to be
	})
}

// A program that ends in good order removes its addresses itself. Its guard
// says nothing to anybody, and ends.
func TestQuietEnd(t *testing.T) {
	h, p, c := start(t, "hold")
	pid := guardOf(t, p.Pid())
	if err := syscall.Kill(p.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if h.Holds(netip.MustParseAddr(vip4)) {
		t.Error("the address is still there")
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the guard outlives a program that ended in good order")
	}
	silent(t, h, c)
}

// Signals to the program's process group are not for the guard.
func TestGuardIgnoresGroupSignals(t *testing.T) {
	h, p, c := start(t, "hold")
	pid := guardOf(t, p.Pid())
	if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("the guard is in process group %d, want one of its own, %d (error %v)", pgid, pid, err)
	}
	// By what the kernel has noted down: a process that dies of a signal takes
	// its time.
	ignored, caught := signals(t, pid, "SigIgn"), signals(t, pid, "SigCgt")
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
	} {
		if ignored&(1<<(s-1)) == 0 {
			t.Errorf("the guard does not ignore %v", s)
		}
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	const parentDied = 61
	if caught&(1<<(parentDied-1)) == 0 {
		t.Error("the guard does not notice its parent's death early")
	}
	// That of somebody else has no consequences.
	if err := syscall.Kill(pid, parentDied); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "the signal has arrived", func() bool { return signals(t, pid, "ShdPnd")&(1<<(parentDied-1)) == 0 })
	if err := p.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	silent(t, h, c)
}

// signals returns one of the sets of signals in a process's status (proc(5)).
func signals(t *testing.T, pid int, name string) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\n"+name+":\t")
	line, _, _ := strings.Cut(after, "\n")
	set, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The program gives itself a new guard when the old one dies, which then knows
// the same will.
func TestGuardIsReplaced(t *testing.T) {
	h, p, c := start(t, "hold")
	old := guardOf(t, p.Pid())
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 10*time.Second, "another guard is there", func() bool {
		pids := strings.Fields(allChildren(p.Pid()))
		return len(pids) > 0 && !slices.Contains(pids, strconv.Itoa(old)) && waitsForEnd(pids[0])
	})
	if !h.Holds(netip.MustParseAddr(vip4)) {
		t.Error("the death of the guard had consequences")
	}
	died := time.Now()
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantWillDone(t, h, c, died)
}

// waitsForEnd reports whether a guard reached its wait: it gave up its standard
// output.
func waitsForEnd(pid string) bool {
	_, err := os.Readlink("/proc/" + pid + "/fd/1")
	_, alive := os.Readlink("/proc/" + pid + "/fd/0")
	return err != nil && alive == nil
}
