package admin

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestForeignFiles: whatever stands where the socket or its lock is to be, and is no stale
// one of a havip, is left as it is, and the error says what to do.
func TestForeignFiles(t *testing.T) {
	write := func(path string) error { return os.WriteFile(path, []byte("mine"), 0o640) }
	living := func(network string) func(string) error {
		return func(path string) error {
			if network == "unixgram" {
				c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
				if err == nil {
					t.Cleanup(func() { c.Close() })
				}
				return err
			}
			l, err := net.Listen(network, path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}
	}
	for _, c := range []struct {
		name, suffix string
		make         func(path string) error
		want         string
	}{
		{"a file", "", write, "something else than a socket: remove it, or set admin.socket to another path"},
		{"a folder", "", func(p string) error { return os.Mkdir(p, 0o700) }, "something else than a socket"},
		{"a FIFO", "", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "something else than a socket"},
		{"a link to a file", "", func(p string) error { return os.Symlink("other", p) }, "something else than a socket"},
		{"a link to nothing", "", func(p string) error { return os.Symlink("nothing", p) }, "something else than a socket"},
		{"a program's socket", "", living("unix"), fmt.Sprintf("process %d has it", os.Getpid())},
		{"a program's socket for datagrams", "", living("unixgram"), "the socket that is there"},
		{"a lock of something else", ".lock", write, "is no lock of havip: move it away"},
		{"a large lock", ".lock", func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("1", 21)), 0o600) }, "is no lock of havip"},
		{"a second name of a file", ".lock", func(p string) error { return os.Link(filepath.Join(filepath.Dir(p), "empty"), p) }, "is no lock of havip"},
		{"a FIFO as the lock", ".lock", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "is no lock of havip"},
		{"a folder as the lock", ".lock", func(p string) error { return os.Mkdir(p, 0o700) }, "is a directory"},
		{"a link as the lock", ".lock", func(p string) error { return os.Symlink("empty", p) }, "too many levels of symbolic links"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "havip")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			for name, text := range map[string]string{"other": "mine", "empty": ""} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "s")
			if err := c.make(path + c.suffix); err != nil {
				t.Fatal(err)
			}
			before := looksOf(t, dir)
			l, err := socketDoor{New(Config{}, newFakeNode())}.open(t.Context(), place{address: path}, nil)
			if err == nil {
				l.close()
				t.Fatal("it is taken")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q", err, c.want)
			}
			if after := looksOf(t, dir); after != before {
				t.Errorf("it was\n%sand is\n%s", before, after)
			}
		})
	}
}

// looksOf says what is in a folder.
func looksOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		text := []byte{}
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if e.Name() != "s.lock" || info.Mode().Type() != 0 || info.Size() > 0 || names(info) > 1 {
			fmt.Fprintf(&b, "%s %v %q\n", e.Name(), info.Mode(), text)
		}
	}
	return b.String()
}

// TestLockOfTheDead: the files that a killed havip has left are taken over.
func TestLockOfTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := os.WriteFile(path+".lock", []byte("4194304\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := socketDoor{New(Config{}, newFakeNode())}
	l, err := d.open(t.Context(), place{address: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestPathsOfNoSocket say what is wanted.
func TestPathsOfNoSocket(t *testing.T) {
	d := socketDoor{New(Config{}, newFakeNode())}
	for _, path := range []string{"s", "@havip", "/tmp/" + strings.Repeat("x", 103)} {
		if _, err := d.open(t.Context(), place{address: path}, nil); err == nil || !strings.Contains(err.Error(), "want an absolute path of at most 107 bytes") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestAccessGoesByNoLink: who may write to the folder could put a link in the socket's
// place, and have root open any file to the group.
func TestAccessGoesByNoLink(t *testing.T) {
	dir := t.TempDir()
	file, link, socket := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{file, socket} {
		os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{link, file} {
			if err := setAccess(path, os.Getegid(), 0o660); err == nil || !strings.Contains(err.Error(), "is no socket any more") {
				t.Errorf("%s: %v", path, err)
			}
		}
		if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", target, info.Mode(), err)
		}
	}
	if err := setAccess(socket, os.Getegid(), 0o660); err != nil {
		t.Error(err)
	}
}

// TestFloodByTCP: as long as questions by TCP take all their turns, the socket answers, and
// whoever asks by TCP whether the process lives is told so. Nothing is left of it.
func TestFloodByTCP(t *testing.T) {
	before := runtime.NumGoroutine()
	f := start(t, nil)
	free := f.node.blocks()
	defer free()
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			if got := f.ask("GET", "/api/v1/explain/192.0.2.1", "", "Connection", "close"); got.status != 200 && got.status != 503 {
				f.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	f.until("TCP has as many as may work", func() bool { return len(f.gate("tcp").work) == maxWork })
	f.want("the socket", f.ask("GET", "@/api/v1/status", ""), 200, "lb01")
	f.want("it lives", f.ask("GET", "/healthz", "", "Connection", "close"), 200, "true")
	f.want("who asks", f.ask("GET", "/api/v1/access", "", "Connection", "close"), 200, "somebody at")
	free()
	flood.Wait()
	f.stop()
	f.client(true).CloseIdleConnections()
	f.until("nothing is left", func() bool {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return runtime.NumGoroutine() <= before+4 // clients of the test
	})
}

// endOf is a connection from some address.
type endOf struct {
	net.Conn
	from net.TCPAddr
}

func (e endOf) RemoteAddr() net.Addr { return &e.from }
func (endOf) Close() error           { return nil }

// TestShareOfANetwork: a host has as many IPv6 addresses as it likes, and one share.
func TestShareOfANetwork(t *testing.T) {
	f := start(t, onlySocket)
	g := &gate{s: f.s, clients: map[*client]struct{}{}, sources: map[string]int{}}
	from := func(prefix string, i int) *client {
		return g.admit(endOf{from: net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("%s%x", prefix, i)), Port: 1}})
	}
	var all []*client
	for i := range 100 {
		switch k := from("2001:db8::", i+1); {
		case i < maxPerAddress && (k == nil || k.refused):
			t.Fatalf("connection %d is refused", i)
		case i >= maxPerAddress && k != nil && !k.refused:
			t.Fatalf("connection %d is not refused", i)
		case i >= maxPerAddress+maxRefused/4 && k != nil:
			t.Fatalf("connection %d is told so", i)
		case k != nil:
			all = append(all, k)
		}
	}
	if k := from("2001:db8:0:1::", 1); k == nil || k.refused {
		t.Error("another network is concerned")
	} else {
		all = append(all, k)
	}
	all[0].idle = time.Now() // which gives its place to its own network only
	all[len(all)-2].Close()
	if k := from("2001:db8::", 1000); k == nil || k.refused {
		t.Error("the idle one does not give its place")
	} else {
		all = append(all, k)
	}
	for _, k := range all {
		k.Close()
		k.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.clients) > 0 || len(g.sources) > 0 {
		t.Errorf("%d connections, of %v, are still counted", len(g.clients), g.sources)
	}
}
