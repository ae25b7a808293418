package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/havip/havip/internal/lab"
)

// reloader runs havip on a host and changes its configuration.
type reloader struct {
	t    *testing.T
	host *lab.Host
	file string
	cmd  *lab.Cmd
}

func startReloader(t *testing.T, h *lab.Host, config string) *reloader {
	t.Helper()
	return startProgram(t, havip(t), h, config)
}

// startProgram is startReloader for another build of havip.
func startProgram(t *testing.T, bin string, h *lab.Host, config string) *reloader {
	t.Helper()
	r := &reloader{t: t, host: h, file: filepath.Join(t.TempDir(), "havip.yaml")}
	r.write(config)
	r.cmd = h.Command(bin, "run", "-c", r.file)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reloader) write(config string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload goes on with another file and waits until havip has said how that
// went: its line.
func (r *reloader) reload(config string) string {
	r.t.Helper()
	before := r.verdicts()
	r.write(config)
	if err := r.cmd.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
	lab.Until(r.t, 30*time.Second, "havip has reloaded", func() bool { return len(r.verdicts()) > len(before) })
	return r.verdicts()[len(before)]
}

func (r *reloader) verdicts() []string {
	var lines []string
	for line := range strings.Lines(r.cmd.Output()) {
		if strings.Contains(line, "msg=reloaded") || strings.Contains(line, "msg=reload ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func (r *reloader) must(config string) {
	r.t.Helper()
	if line := r.reload(config); !strings.Contains(line, "msg=reloaded") {
		r.t.Fatalf("not reloaded: %s", line)
	}
}

// deletions records the addresses that are removed from a host, and those that
// are put there.
// A router that a busy machine keeps from running for longer than its peers wait, or
// than its lease, lets go of its addresses: whoever counts gives it time.
type deletions struct {
	mu   sync.Mutex
	gone []string
	come []string
}

func watchDeletions(t *testing.T, h *lab.Host) *deletions {
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 1024), make(chan struct{})
	if err := h.Do(func() error { return netlink.AddrSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	d := &deletions{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for u := range updates {
			d.mu.Lock()
			if u.NewAddr {
				d.come = append(d.come, u.LinkAddress.IP.String())
			} else {
				d.gone = append(d.gone, u.LinkAddress.IP.String())
			}
			d.mu.Unlock()
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return d
}

func (d *deletions) of(a netip.Addr) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, g := range d.gone {
		if g == a.String() {
			n++
		}
	}
	return n
}

func (d *deletions) put(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.come, a.String())
}

const reloadRouter = `
  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 500ms, lease: 20s, addresses: [192.168.31.250/24]%s}
`
