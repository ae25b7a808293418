package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/vip/internal/hook"
)

var errNoFilter = fmt.Errorf("vip: nftables, which NoAccept takes: %w", errors.ErrUnsupported)

// openFilter opens the filter for NoAccept, if the program and the kernel have one.
func (k *linuxKernel) openFilter() (err error) {
	if hook.OpenFilter == nil {
		return nil
	}
	if k.packets, err = hook.OpenFilter(); errors.Is(err, errors.ErrUnsupported) {
		k.packets, err = nil, nil
	}
	return err
}

func (k *linuxKernel) filter(name string, addrs []netip.Addr) error {
	switch {
	case k.packets == nil:
		return errNoFilter
	case len(addrs) == 0:
		return k.packets.Pass(name)
	}
	return k.packets.Drop(name, addrs)
}

func (k *linuxKernel) filters(name string, addrs []netip.Addr) (bool, error) {
	if k.packets == nil {
		return false, errNoFilter
	}
	return k.packets.Intact(name, addrs)
}

func (k *linuxKernel) sweep(addrs []netip.Addr) error {
	if k.packets == nil {
		return errNoFilter
	}
	return k.packets.Sweep(addrs)
}

// filterRemoval returns a transaction, which fails as a whole if the table is missing.
func (k *linuxKernel) filterRemoval(name string) []byte {
	const toTables = unix.NFNL_SUBSYS_NFTABLES << 8 // in network byte order
	batch := func(typ int) []byte {
		return request(typ, []nl.NetlinkRequestData{&nl.Nfgenmsg{ResId: nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)}})
	}
	return slices.Concat(
		batch(unix.NFNL_MSG_BATCH_BEGIN),
		request(toTables|unix.NFT_MSG_DELTABLE, []nl.NetlinkRequestData{
			&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET},
			nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(hook.TableName(name))),
		}),
		batch(unix.NFNL_MSG_BATCH_END))
}
