package healthcheck

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

func (c Gateway) probe(ctx context.Context) error {
	ifi, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return err
	}
	if addr := c.Address.Unmap(); addr.Is4() {
		return askARP(ctx, ifi, addr)
	}
	return askNDP(ctx, ifi, c.Address)
}

// askARP broadcasts a request for addr and waits for the reply to us.
func askARP(ctx context.Context, ifi *net.Interface, addr netip.Addr) error {
	if len(ifi.HardwareAddr) != 6 {
		return errors.New("no Ethernet interface")
	}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, nil) // the kernel adds and strips Ethernet headers
	if err != nil {
		return err
	}
	defer conn.Close()
	defer bindDeadline(ctx, conn)()
	sender, err := senderFor(ifi, addr)
	if err != nil {
		return err
	}
	request := marshalARP(arpRequest, ifi.HardwareAddr, sender, make(net.HardwareAddr, 6), addr)
	if _, err := conn.WriteTo(request, &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if isARPAnswer(buf[:n], addr, ifi.HardwareAddr) {
			return nil
		}
	}
}

// senderFor chooses the interface's address to ask from: one in the network
// of addr, or else any. An interface without one asks as a probe does, from
// 0.0.0.0 (RFC 5227 §2.1.1).
func senderFor(ifi *net.Interface, addr netip.Addr) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	sender := netip.IPv4Unspecified()
	for _, a := range addrs {
		switch p, err := netip.ParsePrefix(a.String()); {
		case err != nil, !p.Addr().Is4():
		case p.Contains(addr):
			return p.Addr(), nil
		case sender.IsUnspecified():
			sender = p.Addr()
		}
	}
	return sender, nil
}

// askNDP multicasts a solicitation for addr and waits for its advertisement.
func askNDP(ctx context.Context, ifi *net.Interface, addr netip.Addr) error {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer bindDeadline(ctx, conn)()
	p := conn.IPv6PacketConn()
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := errors.Join(p.SetICMPFilter(&filter), p.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true)); err != nil {
		return err
	}
	group := &net.IPAddr{IP: solicitedNode(addr).AsSlice(), Zone: ifi.Name}
	cm := &ipv6.ControlMessage{HopLimit: ndpHopLimit, IfIndex: ifi.Index}
	if _, err := p.WriteTo(marshalSolicitation(addr, ifi.HardwareAddr), cm, group); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, cm, _, err := p.ReadFrom(buf)
		if err != nil {
			return err
		}
		// A hop limit below 255 has crossed a router: not a neighbour's word
		// (RFC 4861 §7.1.2).
		if cm != nil && cm.HopLimit == ndpHopLimit && cm.IfIndex == ifi.Index && isAdvertisementOf(buf[:n], addr) {
			return nil
		}
	}
}
