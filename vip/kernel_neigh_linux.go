package vip

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// known looks into the kernel's neighbour tables (rtnetlink(7)).
func (k *linuxKernel) known(index int, mac net.HardwareAddr) ([]netip.Addr, error) {
	answers, err := k.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{},
		nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(index))))
	if err != nil {
		return nil, explain("list neighbours", err)
	}
	var list []netip.Addr
	for _, b := range answers {
		if len(b) < unix.SizeofNdMsg {
			continue
		}
		n, err := netlink.NeighDeserialize(b)
		if err != nil || n.LinkIndex != index || !bytes.Equal(n.HardwareAddr, mac) {
			continue
		}
		if addr, ok := netip.AddrFromSlice(n.IP); ok {
			list = append(list, addr.Unmap())
		}
	}
	return list, nil
}
