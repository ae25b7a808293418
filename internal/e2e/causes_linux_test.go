package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// havipCauses are the ways in which a node with havip dies.
var havipCauses = []*cause{
	{name: "SIGTERM", told: true, strike: signal(syscall.SIGTERM)},
	{name: "SIGKILL", told: true, strike: signal(syscall.SIGKILL)},
	{name: "panic", told: true, prepare: panicky, strike: signal(panicSignal)},
	// The guard may be killed as well where it lacks CAP_SYS_RESOURCE, by which it
	// is exempt.
	{name: "out of memory in its cgroup", leased: true, prepare: confine, strike: exhaust},
	{name: "guard killed, then SIGKILL", told: true, strike: killGuardFirst},
	{name: "interface re-created, then SIGKILL", told: true, strike: killAfterRebirth},
	{name: "daemon and guard killed at once", leased: true, strike: killAll},
	{name: "SIGSTOP", leased: true, strike: signal(syscall.SIGSTOP), heal: signal(syscall.SIGCONT)},
	{
		name:   "link cut",
		strike: func(s *stage) error { return s.nodes[0].host.Cut() },
		heal:   func(s *stage) error { return s.nodes[0].host.Restore() },
	},
	{name: "interface deleted", strike: deleteInterface, heal: recreateInterface},
	{name: "namespace deleted", prepare: ownNamespace, strike: deleteNamespace},
}

// keepalivedCauses are for comparison.
var keepalivedCauses = []*cause{
	{name: "SIGTERM", told: true, strike: signal(syscall.SIGTERM)},
	// A new one is started, which removes what it finds and begins anew.
	{name: "its VRRP process killed", strike: killVRRP, ends: []holders{lb01, lb02}},
	// The address is left behind.
	{name: "all of it killed at once", strike: killAll, ends: []holders{both}},
}

var powerOff = &cause{name: "power off", strike: func(s *stage) error {
	if err := s.nodes[0].host.Cut(); err != nil {
		return err
	}
	if err := s.witness.forget(0); err != nil {
		return err
	}
	return s.nodes[0].powerOff()
}}

func signal(sig syscall.Signal) func(*stage) error {
	return func(s *stage) error { return s.nodes[0].cmd.Signal(sig) }
}

// onlyChild is havip's guard, or Keepalived's VRRP process.
func (s *stage) onlyChild() (int, error) {
	list := labtest.Children(s.nodes[0].cmd.Pid())
	if len(list) != 1 {
		return 0, fmt.Errorf("%v has %d children, want 1", s.nodes[0].cmd, len(list))
	}
	return list[0], nil
}

// killChild kills the child and nothing else.
func killChild(s *stage) error {
	pid, err := s.onlyChild()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// killGuardFirst kills the guard, and the daemon when it has another one.
func killGuardFirst(s *stage) error {
	old, err := s.onlyChild()
	if err != nil {
		return err
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		return err
	}
	err = s.until("the daemon starts another guard", func() bool {
		pid, err := s.onlyChild()
		return err == nil && pid != old && ready(pid)
	})
	if err != nil {
		return err
	}
	s.from = time.Now()
	return signal(syscall.SIGKILL)(s)
}

// ready reports whether a guard has told its parent that it is ready, by the
// pipe that is its standard output until then.
func ready(pid int) bool {
	_, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/1", pid))
	return errors.Is(err, os.ErrNotExist)
}

// killAll kills daemon and guard so that neither can do anything about the
// other's death.
func killAll(s *stage) error {
	if err := signal(syscall.SIGSTOP)(s); err != nil {
		return err
	}
	if err := killChild(s); err != nil {
		return err
	}
	return signal(syscall.SIGKILL)(s)
}

// killVRRP kills Keepalived's VRRP process and waits until the next one has
// noticed the address.
func killVRRP(s *stage) error {
	if err := killChild(s); err != nil {
		return err
	}
	return s.until("LB-01 loses the address", func() bool {
		by, _ := s.witness.now()
		return by != lb01
	})
}

func deleteInterface(s *stage) error {
	nl := s.nodes[0].host.Netlink()
	link, err := nl.LinkByName("eth0")
	if err != nil {
		return err
	}
	return nl.LinkDel(link)
}

// recreateInterface gives the host an interface of the same name and address.
func recreateInterface(s *stage) error {
	lan, err := s.lab.Segment("lan")
	if err != nil {
		return err
	}
	return s.nodes[0].host.Attach("eth0", lan, s.nodes[0].own...)
}

// killAfterRebirth kills the daemon once it has the address back on an
// interface that its guard did not know at first.
func killAfterRebirth(s *stage) error {
	if err := deleteInterface(s); err != nil {
		return err
	}
	if err := s.await("LB-02 has the address", lb02); err != nil {
		return err
	}
	if err := recreateInterface(s); err != nil {
		return err
	}
	if err := s.await("LB-01 has the address back", lb01); err != nil {
		return err
	}
	s.from = time.Now()
	return signal(syscall.SIGKILL)(s)
}

// ownNamespace moves LB-01's interface into a network namespace that the lab
// does not keep alive, and lets its program run there.
func ownNamespace(s *stage) error {
	n := s.nodes[0]
	var ns netns.NsHandle
	err := n.host.Do(func() (err error) {
		ns, err = netns.New()
		return err
	})
	if err != nil {
		return err
	}
	s.ns = ns
	link, err := n.host.Netlink().LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := n.host.Netlink().LinkSetNsFd(link, int(ns)); err != nil {
		return err
	}
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	if link, err = nl.LinkByName("eth0"); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(n.own[0].String())
	if err != nil {
		return err
	}
	if err := errors.Join(nl.LinkSetUp(link), nl.AddrAdd(link, addr)); err != nil {
		return err
	}
	s.inside[0] = func(f func() error) error {
		return n.host.Do(func() error {
			if err := netns.Set(ns); err != nil {
				return err
			}
			return f()
		})
	}
	n.peer = n.peer.behind("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), int(ns)))
	return nil
}

// behind runs the peer's program by another one.
func (p peer) behind(argv ...string) peer {
	configure := p.configure
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		own, err := configure(n, routers, dir)
		return slices.Concat(argv, own), err
	}
	return p
}

// deleteNamespace ends everything that is in the namespace, and with that the
// namespace, as when a container is removed.
func deleteNamespace(s *stage) error {
	if err := killAll(s); err != nil {
		return err
	}
	if err := s.witness.forget(0); err != nil {
		return err
	}
	return s.ns.Close()
}

// confine puts LB-01's program into a control group with little memory.
func confine(s *stage) error {
	dir, err := memoryGroup(fmt.Sprintf("havip-%d-%p", os.Getpid(), s))
	if err != nil {
		return err
	}
	s.cleanup = append(s.cleanup, func() error {
		// The group is busy until the last process in it has been reaped.
		var err error
		for range 1000 {
			if err = os.Remove(dir); err == nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return err
	})
	// Version 2 only: all processes in the group die.
	_ = os.WriteFile(filepath.Join(dir, "memory.oom.group"), []byte("1"), 0)
	s.enter = []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs")}
	s.nodes[0].peer = s.nodes[0].peer.behind(s.enter...)
	return nil
}

// memoryGroup makes a control group with little memory, below this process's own
// or, where that may have none, as far up as need be.
func memoryGroup(name string) (string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errImpossible, err)
	}
	mount, path, limit := "/sys/fs/cgroup", "/", "memory.max"
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3:
		case slices.Contains(strings.Split(f[1], ","), "memory"): // version 1
			mount, path, limit = "/sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes"
		case f[0] == "0" && limit == "memory.max":
			path = f[2]
		}
	}
	var errs []error
	for ; ; path = filepath.Dir(path) {
		dir := filepath.Join(mount, path, name)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			if err = os.WriteFile(filepath.Join(dir, limit), []byte("67108864"), 0); err == nil {
				return dir, nil
			}
			os.Remove(dir)
		}
		if errs = append(errs, err); path == "/" || path == "." {
			return "", fmt.Errorf("%w: no control group with a memory controller can be made: %w", errImpossible, errors.Join(errs...))
		}
	}
}

// exhaust fills the memory of LB-01's control group until the kernel kills the
// program.
func exhaust(s *stage) error {
	n := s.nodes[0]
	fill := n.host.Command(s.enter[0], append(s.enter[1:], "dd", "if=/dev/zero", "of=/run/fill", "bs=256k", "count=4096")...)
	fill.Private = true // /run is in memory
	if err := fill.Start(); err != nil {
		return err
	}
	if err := s.until("the kernel kills the daemon", func() bool {
		select {
		case <-n.cmd.Done():
			return true
		default:
			return false
		}
	}); err != nil {
		return err
	}
	if err := n.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		return fmt.Errorf("the daemon was not killed: %w", err)
	}
	return nil
}
