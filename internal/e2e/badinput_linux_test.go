package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// goodConfig is what every case of TestBadInput spoils in one place.
const goodConfig = `vrrp:
  - name: VI_1
    interface: eth0
    vrid: 51
    addresses: [192.168.31.250/24]
services:
  - name: web
    listen: ":8080"
    mode: http
    backends: ["192.168.31.242:8080"]
`

// TestBadInput: what an operator gets wrong is said in one clear line, with an
// exit code that tells whose fault it is, and leaves no address behind.
func TestBadInput(t *testing.T) {
	exe := havip(t)
	for _, tc := range []struct {
		name     string
		old, new string // the change to goodConfig
		args     []string
		strict   bool
		prepare  func(t *testing.T, h *lab.Host)
		code     int
		want     []string // parts of the one line
	}{
		{name: "wrong type", old: "vrid: 51", new: "vrid: many", code: 2, want: []string{"havip.yaml:4:11", "vrid"}},
		{name: "unknown key", old: "vrid: 51", new: "vrid: 51\n    priorty: 120", code: 2, want: []string{"havip.yaml:5:5", "priorty", "priority"}},
		{name: "VRID 0", old: "vrid: 51", new: "vrid: 0", code: 2, want: []string{"havip.yaml:4:11", "1 to 255"}},
		{name: "VRID 256", old: "vrid: 51", new: "vrid: 256", code: 2, want: []string{"havip.yaml:4:11", "1 to 255"}},
		{
			name: "address of the wrong family", old: "[192.168.31.250/24]", new: "[192.168.31.250/24, \"2001:db8::1/64\"]",
			code: 2, want: []string{"havip.yaml:5:", "2001:db8::1", "IPv6"},
		},
		{name: "no such file", args: []string{"run", "-c", "/nonexistent/havip.yaml"}, code: 2, want: []string{"/nonexistent/havip.yaml", "no such file"}},
		{name: "unknown flag", args: []string{"run", "--bogus"}, code: 2, want: []string{"bogus", "--help"}},
		{name: "unknown command", args: []string{"rum"}, code: 2, want: []string{"rum", "help"}},
		{name: "stray argument", args: []string{"run", "havip.yaml"}, code: 2, want: []string{"havip.yaml", "--help"}},
		{name: "help about what there is not", args: []string{"help", "rum"}, code: 2, want: []string{"rum"}},
		{
			name: "flags without an address", args: []string{"run", "--interface", "eth0", "--vrid", "51"},
			code: 2, want: []string{"--address"},
		},
		{
			name: "wrong flag", args: []string{"run", "--interface", "eth0", "--vrid", "256", "--address", "192.168.31.250/24"},
			code: 2, want: []string{"--vrid", "1 to 255"},
		},
		{name: "missing interface", old: "interface: eth0", new: "interface: eth9", strict: true, code: 1, want: []string{"havip.yaml:2:5", "eth9"}},
		{
			name: "port in use", strict: true, code: 1, want: []string{"8080", "in use"},
			prepare: func(t *testing.T, h *lab.Host) {
				l, err := h.Listen("tcp", ":8080")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
			if tc.prepare != nil {
				tc.prepare(t, h)
			}
			args := tc.args
			if args == nil {
				file := filepath.Join(t.TempDir(), "havip.yaml")
				config := strings.Replace(goodConfig, tc.old, tc.new, 1)
				if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
				args = []string{"run", "-c", file}
			}
			if tc.strict {
				args = append(args, "--strict-start")
			}
			code, out := exitOf(t, h.Command(exe, args...))
			complains(t, out, code, tc.code, tc.want)
			if addrs, err := h.Addrs(); err != nil || h.Holds(vip) {
				t.Errorf("left behind: %v (%v)", addrs, err)
			}
		})
	}
}

// TestNoPrivileges: an ordinary user is told what is missing. The user
// namespace that the child gets has no power over the network namespace that
// it is in.
func TestNoPrivileges(t *testing.T) {
	lab.Need(t, "setpriv")
	exe := havip(t)
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	file := filepath.Join(t.TempDir(), "havip.yaml")
	if err := os.WriteFile(file, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := exitOf(t, h.Command("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", exe, "run", "-c", file))
	complains(t, out, code, 1, []string{"CAP_NET_"})
}

// TestVersion: both ways to ask for it.
func TestVersion(t *testing.T) {
	exe := havip(t)
	for _, arg := range []string{"version", "--version"} {
		out, err := exec.Command(exe, arg).CombinedOutput()
		if err != nil || !bytes.HasPrefix(out, []byte("havip ")) {
			t.Errorf("havip %s: %v: %s", arg, err, out)
		}
	}
}

// TestSignalWhileReading: a configuration that never comes, from a FIFO, does
// not keep havip from ending.
func TestSignalWhileReading(t *testing.T) {
	exe := havip(t)
	fifo := filepath.Join(t.TempDir(), "havip.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := lab.New(t).MustHost("lb01", "192.168.31.240/24").Command(exe, "run", "-c", fifo)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Both ends have been opened once havip reads.
	var w *os.File
	lab.Eventually(t, 30*time.Second, "havip reads the FIFO", func() (err error) {
		w, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	defer w.Close()
	if err := cmd.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cmd.Done():
	case <-time.After(30 * time.Second):
		t.Error("SIGTERM did not end it")
	}
}

// TestValidateHost: what a machine lacks for a file are warnings, and with --host
// errors, every one of them; a mistake in the file is another thing.
func TestValidateHost(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	config := strings.Replace(goodConfig, "vrid: 51", "vrid: 51\n    notify: [/no/such/notify]\n    peers: [192.168.31.240]", 1)
	lacks := []string{
		"havip.yaml:5:14: vrrp[0].notify[0]: /no/such/notify: this machine cannot run it: ", "havip.yaml:6:12: vrrp[0].peers: only addresses of this machine",
	}
	validate := func(config string, code int, want []string, args ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "havip.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		got, out := exitOf(t, h.Command(exe, append([]string{"validate", "-c", file}, args...)...))
		if got != code {
			t.Errorf("%v: exit code %d, want %d", args, got, code)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%v: nothing about %q in\n%s", args, w, out)
			}
		}
		if strings.Contains(out, ": ok: ") != (code == 0) || len(want) == 0 && strings.Count(out, "\n") > 1 {
			t.Errorf("%v: it said\n%s", args, out)
		}
	}
	validate(goodConfig, 0, nil)
	validate(goodConfig, 0, nil, "--host")
	validate(config, 0, append(lacks, "warning: ", "validate --host"))
	validate(config, 1, lacks, "--host")
	validate(strings.Replace(config, "vrid: 51", "vrid: 510", 1), 2, []string{"havip.yaml:4:11"}, "--host")
}

// complains checks that out is one line that contains all of want.
func complains(t *testing.T, out string, code, wantCode int, want []string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit code %d, want %d", code, wantCode)
	}
	if n := strings.Count(strings.TrimSpace(out), "\n") + 1; n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("nothing about %q", w)
		}
	}
	if t.Failed() {
		t.Logf("it said:\n%s", out)
	}
}

// exitOf runs a command that is expected to end by itself.
func exitOf(t *testing.T, cmd *lab.Cmd) (code int, out string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cmd.Done():
	case <-time.After(30 * time.Second):
		cmd.Kill()
		t.Fatalf("still running; it said:\n%s", cmd.Output())
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, cmd.Output()
}

// TestTermHandsOver: SIGTERM sends priority 0, removes the address and exits
// with code 0; validate accepts what run accepts.
func TestTermHandsOver(t *testing.T) {
	t.Parallel()
	exe := havip(t)
	h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
	file := filepath.Join(t.TempDir(), "havip.yaml")
	if err := os.WriteFile(file, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := exitOf(t, h.Command(exe, "validate", "-c", file)); code != 0 || !strings.Contains(out, "ok") {
		t.Fatalf("validate: exit code %d: %s", code, out)
	}
	wire, err := h.Capture("eth0", lab.Protocol(112))
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(exe, "run", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the only router becomes Active", func() bool { return h.Holds(vip) })
	if err := cmd.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	priority0 := func(f lab.Frame) bool {
		_, _, _, b, ok := f.IP()
		return ok && bytes.HasPrefix(b, []byte{0x31, 51, 0})
	}
	lab.Until(t, 10*time.Second, "an advertisement with priority 0", func() bool { return slices.ContainsFunc(wire.Packets(), priority0) })
	<-cmd.Done()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if h.Holds(vip) {
		t.Error("the address was left behind")
	}
}
