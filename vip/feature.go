package vip

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/havip/havip/vip/internal/hook"
)

// feature is something beside the addresses that is there while they are held.
type feature struct {
	add    func() error
	remove func() error // also what a predecessor has added
}

// features returns the features in the order in which they are added, before the
// addresses. They are removed in reverse order, after the addresses.
func (m *Manager) features() []feature {
	return []feature{
		{m.setMacvlanUp, m.setMacvlanDown},
		{func() error { return m.filter.install(m.cfg.addrs()) }, func() error { return m.filter.remove(m.cfg.addrs()) }},
	}
}

// packetFilter drops what is sent to the addresses, for NoAccept.
type packetFilter struct {
	hook.Filter
	name   string // the Manager's
	drops  bool   // NoAccept
	absent bool   // there is none of this name
	swept  bool   // nor one of a predecessor's
}

// install drops what is sent to addrs.
func (f *packetFilter) install(addrs []netip.Addr) error {
	if !f.drops {
		return nil
	}
	f.absent = false
	return f.Drop(f.name, addrs)
}

// restore installs the filter again if it is not in force any more: many a firewall begins
// with "nft flush ruleset".
func (f *packetFilter) restore(addrs []netip.Addr, log *slog.Logger) error {
	if !f.drops {
		return nil
	}
	intact, err := f.Intact(f.name, addrs)
	if err != nil || intact {
		return err
	}
	warnOften(log, "the filter for what is sent to the addresses had gone, putting it back")
	return f.install(addrs)
}

// remove undoes install. The first time it removes the filters that a predecessor has
// left for the addresses, under whatever name, even if this Manager drops nothing.
func (f *packetFilter) remove(addrs []netip.Addr) error {
	if f.absent {
		return nil
	}
	var err error
	if f.swept {
		err = f.Pass(f.name)
	} else if err = f.Sweep(addrs); !f.drops && errors.Is(err, errors.ErrUnsupported) {
		err = nil // nothing can be left
	}
	f.absent = err == nil
	f.swept = f.swept || f.absent
	return err
}
