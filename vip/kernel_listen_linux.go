package vip

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// openListeners opens the sockets that hear what other hosts claim. They get
// nothing but ARP and neighbour advertisements, however busy the host is.
func (k *linuxKernel) openListeners() (err error) {
	arp := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	if k.arp, err = socket.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(arp), "packet", nil); err != nil {
		return err
	}
	k.undo = append(k.undo, func() { k.arp.Close() })
	k.hearing = append(k.hearing, k.hearARP)
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil // a kernel without IPv6 has no conflicts there
	}
	k.undo = append(k.undo, func() { conn.Close() })
	k.icmp = ipv6.NewPacketConn(conn)
	k.hearing = append(k.hearing, k.hearAdvertisement)
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := k.icmp.SetICMPFilter(&filter); err != nil {
		return err
	}
	return k.icmp.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface|ipv6.FlagDst, true)
}

func (k *linuxKernel) listeners() []func() (sighting, error) { return k.hearing }

func (k *linuxKernel) hearARP() (sighting, error) {
	buf := make([]byte, 64)
	for {
		n, from, err := k.arp.Recvfrom(context.Background(), buf, 0)
		if k.closed.Load() {
			return sighting{}, ErrClosed
		}
		if err != nil {
			return sighting{}, explain("listen for ARP", err)
		}
		sender, isLink := from.(*unix.SockaddrLinklayer)
		if s, ok := parseARP(buf[:n]); ok && isLink {
			s.index, s.time = sender.Ifindex, time.Now()
			s.aside = sender.Pkttype == unix.PACKET_HOST
			return s, nil
		}
	}
}

func (k *linuxKernel) hearAdvertisement() (sighting, error) {
	buf := make([]byte, 1500)
	for {
		n, cm, _, err := k.icmp.ReadFrom(buf)
		if k.closed.Load() {
			return sighting{}, ErrClosed
		}
		if err != nil {
			return sighting{}, explain("listen for neighbour advertisements", err)
		}
		// From beyond the link the hop limit would be less (RFC 4861 §7.1.2).
		if cm == nil || cm.HopLimit != 255 {
			continue
		}
		if addr, mac, ok := parseAdvertisement(buf[:n]); ok {
			return sighting{index: cm.IfIndex, addr: addr, mac: mac, time: time.Now(), aside: !cm.Dst.IsMulticast()}, nil
		}
	}
}

// known looks into the kernel's neighbour tables (rtnetlink(7)).
func (k *linuxKernel) known(index int, mac net.HardwareAddr) ([]netip.Addr, error) {
	parse := func(b []byte) (addr netip.Addr, ok bool) {
		if len(b) < unix.SizeofNdMsg {
			return addr, false
		}
		n, err := netlink.NeighDeserialize(b)
		if err != nil || n.LinkIndex != index || !bytes.Equal(n.HardwareAddr, mac) {
			return addr, false
		}
		addr, ok = netip.AddrFromSlice(n.IP)
		return addr.Unmap(), ok
	}
	return list(k, "neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, parse, &netlink.Ndmsg{},
		nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(index))))
}
