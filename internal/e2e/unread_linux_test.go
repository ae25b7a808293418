package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// logPipe is a FIFO that a program's log goes to, and its reader.
type logPipe struct {
	t    *testing.T
	path string
	read *os.File
	text strings.Builder
}

func newLogPipe(t *testing.T) *logPipe {
	t.Helper()
	p := &logPipe{t: t, path: filepath.Join(t.TempDir(), "log")}
	if err := unix.Mkfifo(p.path, 0o600); err != nil {
		t.Fatal(err)
	}
	p.open()
	t.Cleanup(p.close)
	return p
}

// open makes the test the reader, which reads only when it is told to.
func (p *logPipe) open() {
	p.t.Helper()
	var err error
	if p.read, err = os.OpenFile(p.path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		p.t.Fatal(err)
	}
}

// writer returns the end for a program.
func (p *logPipe) writer() *os.File {
	p.t.Helper()
	fd, err := unix.Open(p.path, unix.O_WRONLY|unix.O_CLOEXEC, 0) // in blocking mode
	if err != nil {
		p.t.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), p.path)
	p.t.Cleanup(func() { w.Close() })
	return w
}

func (p *logPipe) close() { p.read.Close() }

// fill leaves no room for another byte.
func (p *logPipe) fill() {
	p.t.Helper()
	fd, err := unix.Open(p.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer unix.Close(fd)
	for size := 4096; size > 0; {
		if _, err := unix.Write(fd, bytes.Repeat([]byte("\n"), size)); errors.Is(err, unix.EAGAIN) {
			size /= 2
		} else if err != nil {
			p.t.Fatal(err)
		}
	}
}

// says reads until the log has had that word.
func (p *logPipe) says(word string) {
	p.t.Helper()
	buf := make([]byte, 4096)
	lab.Until(p.t, 30*time.Second, "the log says "+word, func() bool {
		p.read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _ := p.read.Read(buf)
		p.text.Write(buf[:n])
		return strings.Contains(p.text.String(), word)
	})
}

// TestUnreadLog: a daemon whose log nobody reads, or whose reader has gone, goes
// on as any other: it puts back what another program deletes, and hands over when
// it is told to end.
func TestUnreadLog(t *testing.T) {
	t.Parallel()
	h := havipPeer(t)
	for name, reader := range map[string]struct {
		lose, find func(*logPipe)
		hears      string
	}{
		"reader sleeps": {(*logPipe).fill, func(*logPipe) {}, "addresses had gone, putting them back"},
		"reader gone":   {(*logPipe).close, (*logPipe).open, "log lines lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, [2]peer{h, h}, []virtualRouter{
				newRouter("VI_1", 51, 2, "pass", false, true, [2]uint8{120, 110}),
			})
			log := newLogPipe(t)
			n := p.nodes[0]
			n.log = log.writer()
			for _, n := range p.nodes {
				if err := n.powerOn(); err != nil {
					t.Fatal(err)
				}
			}
			p.await("LB-01 has the address", func(*virtualRouter) holders { return lb01 })
			log.says("to=Active")
			reader.lose(log)
			for range 3 {
				n.delete(t, p.routers[0].addresses[0].String())
				lab.Until(t, 30*time.Second, "LB-01 puts the address back", func() bool {
					return n.host.Holds(p.routers[0].addresses[0].Addr())
				})
			}
			reader.find(log)
			if err := n.cmd.Signal(syscall.SIGHUP); err != nil { // there will be a line about it
				t.Fatal(err)
			}
			log.says("reloaded")
			if !strings.Contains(log.text.String(), reader.hears) {
				t.Errorf("the log does not say %q:\n%s", reader.hears, strings.TrimSpace(log.text.String()))
			}
			reader.lose(log)
			if err := n.stop(); err != nil {
				t.Error(err)
			}
			if err := n.cmd.Wait(); err != nil {
				t.Error(err)
			}
			p.await("LB-02 has the address", func(*virtualRouter) holders { return lb02 })
		})
	}
}

// delete removes an address as another program does.
func (n *node) delete(t *testing.T, address string) {
	t.Helper()
	link, err := n.host.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.host.Netlink().AddrDel(link, a); err != nil {
		t.Fatal(err)
	}
}
