package vip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ledgerDir is where addresses are noted down that a kernel before 5.18 cannot mark. It
// must outlive the process, but not a reboot.
const ledgerDir = "/run/havip/addresses"

// ledger is the list of addresses that Managers of one network namespace have put on
// interfaces: a folder with an empty file for each. The file is made before the address
// and removed after it, so that a process that is killed leaves no unknown address. Only
// without marks in the kernel the ledger is read.
type ledger struct {
	dir string // empty: there is none
	ns  string // names the network namespace
}

// openLedger returns the ledger of the calling thread's network namespace.
func openLedger(dir string) ledger {
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return ledger{}
	}
	return ledger{dir, strings.TrimRight(strings.TrimPrefix(ns, "net:["), "]")}
}

func (l ledger) path(index int, addr netip.Addr) string {
	return filepath.Join(l.dir, fmt.Sprintf("%s_%d_%s", l.ns, index, addr))
}

func (l ledger) add(index int, addr netip.Addr) error {
	if l.dir == "" {
		return nil
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(l.path(index, addr), nil, 0o644)
}

func (l ledger) remove(index int, addr netip.Addr) {
	if l.dir != "" {
		_ = os.Remove(l.path(index, addr)) // mostly there is no file
	}
}

func (l ledger) has(index int, addr netip.Addr) bool {
	if l.dir == "" {
		return false
	}
	_, err := os.Stat(l.path(index, addr))
	return err == nil
}

// learn finds out whether the kernel keeps the marks of addresses: then some address has a
// mark, if only the kernel's own.
func (n *Namespace) learn(have []assigned) {
	if slices.ContainsFunc(have, func(h assigned) bool { return h.mark != 0 }) {
		n.marks.Store(true)
	}
}

// marked reports whether a Manager has put an address on its interface.
func (n *Namespace) marked(a assigned) bool {
	return a.mark == protocol || !n.marks.Load() && n.ledger.has(a.index, a.prefix.Addr())
}

// remember notes down that an address is about to be added.
func (n *Namespace) remember(a assigned) {
	if n.marks.Load() {
		return
	}
	if err := n.ledger.add(a.index, a.prefix.Addr()); err != nil {
		n.log.Warn("an address cannot be noted down: should this process be killed its successor will not know it", "err", err)
	}
}

// forget takes an address that is not there off the ledger.
func (n *Namespace) forget(index int, addr netip.Addr) {
	if !n.marks.Load() {
		n.ledger.remove(index, addr)
	}
}
