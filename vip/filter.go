package vip

import (
	"errors"
	"net/netip"
)

// packetFilter drops what is sent to the addresses, for NoAccept.
type packetFilter struct {
	kernel kernel
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
	return f.kernel.filter(f.name, addrs)
}

// gone reports whether what was installed is not in force any more: many a firewall
// begins with "nft flush ruleset".
func (f *packetFilter) gone(addrs []netip.Addr) (bool, error) {
	if !f.drops {
		return false, nil
	}
	intact, err := f.kernel.filters(f.name, addrs)
	return err == nil && !intact, err
}

// remove undoes install. The first time it removes the filters that a predecessor has
// left for the addresses, under whatever name, even if this Manager drops nothing.
func (f *packetFilter) remove(addrs []netip.Addr) error {
	if f.absent {
		return nil
	}
	var err error
	if f.swept {
		err = f.kernel.filter(f.name, nil)
	} else if err = f.kernel.sweep(addrs); !f.drops && errors.Is(err, errors.ErrUnsupported) {
		err = nil // nothing can be left
	}
	f.absent = err == nil
	f.swept = f.swept || f.absent
	return err
}
