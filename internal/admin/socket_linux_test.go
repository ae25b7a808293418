package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
)

// onlySocket is a configuration without TCP.
func onlySocket(c *config.Admin) { c.Listen, c.Token = config.Admin{}.Listen, config.Secret{} }

func (f *fixture) mode() fs.FileMode {
	f.Helper()
	info, err := os.Lstat(f.socket)
	if err != nil {
		f.Fatal(err)
	}
	return info.Mode().Perm()
}

// TestSocketMode: the socket is its owner's, or its group's too, and goes at the end.
func TestSocketMode(t *testing.T) {
	f := start(t, onlySocket)
	if m := f.mode(); m != 0o600 {
		t.Errorf("mode %04o, want 0600", m)
	}
	group := fmt.Sprint(os.Getegid())
	f.s.Reconfigure(config.Admin{Socket: f.socket, Group: group})
	f.until("the group may open it", func() bool { return f.mode() == 0o660 })
	f.s.Reconfigure(config.Admin{Socket: f.socket})
	f.until("the group may not open it any more", func() bool { return f.mode() == 0o600 })
	f.s.Reconfigure(config.Admin{Socket: f.socket, Group: "no-such-group-here"})
	f.until("a group that is missing is logged", func() bool { return f.log.Count("groupadd --system no-such-group-here") == 1 })
	f.want("asking goes on", f.ask("GET", "@/healthz", ""), 200, "true")
	if n := f.log.Count("listening"); n != 1 {
		t.Errorf("opened %d times\n%s", n, f.log)
	}
	f.stop()
	if entries, _ := os.ReadDir(filepath.Dir(f.socket)); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestSocketIsNeverOpenToOthers: whatever the umask is, the file has mode 0600 from the
// moment when it is there.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "s")
	var watched, wrong atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			if info, err := os.Lstat(path); err == nil {
				if watched.Add(1); info.Mode().Perm() != 0o600 {
					wrong.Add(1)
				}
			}
		}
	})
	for i := 0; i < 2000 && (i < 200 || watched.Load() < 100); i++ {
		l, err := listenSocket(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		os.Remove(path)
	}
	cancel()
	watch.Wait()
	if wrong.Load() > 0 || watched.Load() == 0 {
		t.Errorf("open to others in %d of %d looks", wrong.Load(), watched.Load())
	}
}

// TestStaleSocket: one that nobody answers on is replaced, and anything else is left alone.
func TestStaleSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_, err = listenSocket(t.Context(), path)
	if inUse := (errInUse{}); !errors.As(err, &inUse) || inUse.pid != os.Getpid() {
		t.Errorf("a living socket: %v", err)
	}
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()
	os.Remove(path)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), "something else than a socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

// TestTwoDaemonsAndOneSocket: of two that start at the same time one has it; the other says
// who, goes on, and gets it when the first ends.
func TestTwoDaemonsAndOneSocket(t *testing.T) {
	a := start(t, onlySocket)
	b := &fixture{T: t, node: newFakeNode(), log: a.log, socket: a.socket, tcp: a.tcp}
	b.s = New(Config{Admin: config.Admin{Socket: a.socket}, Log: a.s.log}, b.node)
	b.node.status.Node.Host = "lb02"
	ctx, cancel := context.WithCancel(t.Context())
	var ends sync.WaitGroup
	ends.Go(func() { _ = b.s.Run(ctx) })
	defer ends.Wait()
	defer cancel()
	a.until("the second says who has it", func() bool {
		return len(a.log.Lines("cannot listen", fmt.Sprintf("process %d has it: give each havip its own admin.socket", os.Getpid()))) == 1
	})
	a.want("the first answers", a.ask("GET", "@/api/v1/status", ""), 200, "lb01")
	a.stop()
	a.until("the second has it", func() bool {
		c, err := net.Dial("unix", a.socket)
		if err != nil {
			return false
		}
		c.Close()
		return strings.Contains(b.ask("GET", "@/api/v1/status", "").body, "lb02")
	})
}

// TestManyDaemonsRace: at no time do two of them have the socket.
func TestManyDaemonsRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var holders, most, had atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := 0; i < 300; i++ {
				lock, err := lockFile(path + ".lock")
				if err != nil {
					continue
				}
				l, err := listenSocket(t.Context(), path)
				if err != nil {
					t.Error(err)
				} else {
					n := holders.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					had.Add(1)
					holders.Add(-1)
					l.Close() // as one that was killed: the file stays
				}
				lock.release()
			}
		})
	}
	all.Wait()
	if most.Load() != 1 || had.Load() < 10 {
		t.Errorf("%d at once, %d in all", most.Load(), had.Load())
	}
}

// TestSocketMoves at a reload: the new one is there before the old one goes, and a request
// that is under way on the old one gets its answer.
func TestSocketMoves(t *testing.T) {
	f := start(t, onlySocket)
	free := f.node.blocks()
	defer free()
	answer := make(chan response, 1)
	old := &fixture{T: t, s: f.s, node: f.node, log: f.log, socket: f.socket, tcp: f.tcp}
	go func() { answer <- old.ask("GET", "@/api/v1/explain/192.0.2.1", "") }()
	f.until("a request is under way", func() bool { return len(f.gate("unix").work) == 1 })
	moved := filepath.Join(filepath.Dir(f.socket), "below", "moved.sock")
	f.s.Reconfigure(config.Admin{Socket: moved})
	f.until("it is at the new place", func() bool { _, err := os.Lstat(moved); return err == nil })
	f.until("and not at the old one", func() bool { _, err := os.Lstat(f.socket); return err != nil })
	free()
	if got := <-answer; got.status != 200 {
		t.Errorf("the request that was under way: %d %s", got.status, got.body)
	}
	f.socket = moved
	f.want("at the new place", f.ask("GET", "@/api/v1/status", ""), 200, "lb01")
	f.s.Reconfigure(config.Admin{Socket: config.Off})
	f.until("it is nowhere", func() bool { _, err := os.Lstat(moved); return err != nil })
}

// TestSocketThatCannotMove: the old one goes on, and the log says why once.
func TestSocketThatCannotMove(t *testing.T) {
	f := start(t, onlySocket)
	blocked := filepath.Join(filepath.Dir(f.socket), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.s.Reconfigure(config.Admin{Socket: filepath.Join(blocked, "s")})
	f.until("the log says why", func() bool { return f.log.Count("cannot listen") == 1 })
	f.want("the old one answers", f.ask("GET", "@/healthz", ""), 200, "true")
	os.Remove(blocked)
	f.s.Reconfigure(config.Admin{Socket: filepath.Join(blocked, "s")})
	f.until("it has moved", func() bool { _, err := os.Lstat(filepath.Join(blocked, "s")); return err == nil })
}

// TestSocketRemoved by somebody: it comes back.
func TestSocketRemoved(t *testing.T) {
	f := start(t, onlySocket)
	if err := os.RemoveAll(filepath.Dir(f.socket)); err != nil {
		t.Fatal(err)
	}
	f.s.doors[0].poke() // or wait for lookEvery
	f.until("it is there again", func() bool {
		c, err := net.Dial("unix", f.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// TestListenMoves: TCP is opened, moved, widened to all addresses of its port, and closed,
// by reloads.
func TestListenMoves(t *testing.T) {
	f := start(t, nil)
	cfg := f.s.settings.Load().Admin
	answers := func() bool {
		c, err := net.DialTimeout("tcp", f.tcp, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	port := cfg.Listen.Port()
	cfg.Listen = config.Admin{}.Listen
	f.s.Reconfigure(cfg)
	f.until("closed", func() bool { return !answers() })
	cfg.Listen = addrPort("127.0.0.1", port)
	f.s.Reconfigure(cfg)
	f.until("opened", answers)
	cfg.Listen = addrPort("", port)
	f.s.Reconfigure(cfg)
	f.until("widened", func() bool { return f.log.Count(fmt.Sprintf("listen=:%d", port)) == 1 })
	f.want("widened", f.ask("GET", "/api/v1/status", ""), 200, "lb01")
	cfg.Listen = addrPort("127.0.0.2", port)
	f.s.Reconfigure(cfg)
	f.until("narrowed", func() bool { return !answers() })
	f.tcp = cfg.Listen.String()
	f.until("narrowed to another address", answers)
}

// TestPortInUse: a port that another program has is logged once and tried again; the socket
// is not concerned.
func TestPortInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f := start(t, onlySocket)
	f.tcp = other.Addr().String()
	cfg := config.Admin{Socket: f.socket, Listen: other.Addr().(*net.TCPAddr).AddrPort()}
	f.s.Reconfigure(cfg)
	f.until("the log says so", func() bool { return len(f.log.Lines("cannot listen", "address already in use")) == 1 })
	f.want("the socket", f.ask("GET", "@/healthz", ""), 200, "true")
	other.Close()
	f.until("it is there", func() bool { return f.log.Count("listening\" listen=") == 1 })
	f.want("TCP", f.ask("GET", "/healthz", ""), 200, "true")
	if n := f.log.Count("cannot listen"); n != 1 {
		t.Errorf("%d lines\n%s", n, f.log)
	}
}

// addrPort is an address and a port; without an address all of them.
func addrPort(address string, port uint16) netip.AddrPort {
	a, _ := netip.ParseAddr(address)
	return netip.AddrPortFrom(a, port)
}
