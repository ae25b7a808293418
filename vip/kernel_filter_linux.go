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

// noFilter is the filter of a program or a kernel that has none.
type noFilter struct{}

func (noFilter) Drop(string, []netip.Addr) error           { return errNoFilter }
func (noFilter) Pass(string) error                         { return errNoFilter }
func (noFilter) Intact(string, []netip.Addr) (bool, error) { return false, errNoFilter }
func (noFilter) Sweep([]netip.Addr) error                  { return errNoFilter }
func (noFilter) Close() error                              { return nil }

// openFilter opens the filter for NoAccept, if the program and the kernel have one.
func (k *linuxKernel) openFilter() (err error) {
	k.filter = noFilter{}
	if hook.OpenFilter == nil {
		return nil
	}
	filter, err := hook.OpenFilter()
	if err == nil {
		k.filter = filter
	}
	return except(err, errors.ErrUnsupported)
}

func (k *linuxKernel) packets() hook.Filter { return k.filter }

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
