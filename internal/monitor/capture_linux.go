package monitor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
)

// openCapture listens on interfaces, or on all that stand for themselves. It also returns
// their names.
func openCapture(names []string) (source, []string, error) {
	ifaces, err := interfaces(names)
	if err != nil {
		return nil, nil, err
	}
	var taps []*tap
	names = nil
	for _, i := range ifaces {
		t, err := newTap(i)
		if err != nil {
			for _, t := range taps {
				t.conn.Close()
			}
			return nil, nil, err
		}
		taps, names = append(taps, t), append(names, t.name)
	}
	return func(ctx context.Context, frames chan<- Frame) error {
		var all sync.WaitGroup
		errs := make([]error, len(taps))
		for i, t := range taps {
			all.Go(func() { errs[i] = t.read(ctx, frames) })
		}
		all.Wait()
		return errors.Join(errs...)
	}, names, nil
}

// interfaces returns those with names, or those that are worth listening on.
func interfaces(names []string) ([]netlink.Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var list []netlink.Link
	for _, name := range names {
		i := slices.IndexFunc(all, func(l netlink.Link) bool { return l.Attrs().Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no interface %q: want one of %s", name, strings.Join(namesOf(all), ", "))
		}
		if all[i].Attrs().RawFlags&unix.IFF_UP == 0 {
			return nil, fmt.Errorf("interface %s is down: ip link set %[1]s up", name)
		}
		list = append(list, all[i])
	}
	if len(names) > 0 {
		return list, nil
	}
	for _, l := range all {
		if standsAlone(l) {
			list = append(list, l)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no interface has a carrier: name one with -i")
	}
	return list, nil
}

func namesOf(links []netlink.Link) (names []string) {
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}

// stacked are interfaces whose frames the interface below sees as well.
var stacked = []string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"}

// standsAlone reports whether an interface has a carrier, and frames that no other one of
// the host shows: not those of a bridge's ports, nor of what is stacked on another.
func standsAlone(l netlink.Link) bool {
	a := l.Attrs()
	const carrier = unix.IFF_UP | unix.IFF_RUNNING
	below := a.NetNsID < 0 && slices.Contains(stacked, l.Type())
	return a.RawFlags&carrier == carrier && a.RawFlags&unix.IFF_LOOPBACK == 0 && a.MasterIndex == 0 && !below
}

// tap listens on one interface.
type tap struct {
	name     string
	index    int
	ethernet bool
	conn     *socket.Conn
}

// newTap opens a socket that gets what the filter keeps: whole frames of Ethernet, and
// without the link layer's header on any other kind of interface. It joins the groups of
// VRRP, but is not promiscuous.
func newTap(l netlink.Link) (*tap, error) {
	t := &tap{name: l.Attrs().Name, index: l.Attrs().Index, ethernet: l.Attrs().EncapType == "ether"}
	kind := unix.SOCK_DGRAM
	if t.ethernet {
		kind = unix.SOCK_RAW
	}
	conn, err := socket.Socket(unix.AF_PACKET, kind, 0, "monitor", nil)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("listen on %s: %w: run as root or with CAP_NET_RAW, or read what tcpdump hears: tcpdump -U -w - | havip monitor -r -", t.name, unix.EPERM)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", t.name, err)
	}
	t.conn = conn
	if err := t.bind(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", t.name, err)
	}
	return t, nil
}

func (t *tap) bind() error {
	program, err := bpf.Assemble(filter(t.ethernet))
	if err != nil {
		return err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network byte order
	err = errors.Join(
		t.conn.SetBPF(program),
		t.conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		t.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1), // the VLAN tag that the kernel has taken off
		t.conn.SetReadBuffer(1<<20),                                   // others than root get what the machine's limit allows
	)
	for _, group := range []string{"224.0.0.18", "ff02::12"} {
		mac := inet.GroupMAC(netip.MustParseAddr(group))
		mreq := unix.PacketMreq{Ifindex: int32(t.index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(mac))}
		copy(mreq.Address[:], mac[:])
		// An interface without hardware addresses, such as a tunnel, has no such groups.
		_ = t.conn.SetsockoptPacketMreq(unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	}
	return errors.Join(err, t.conn.Bind(&unix.SockaddrLinklayer{Protocol: all, Ifindex: t.index}))
}

// read passes frames on until the context ends or the interface is gone.
func (t *tap) read(ctx context.Context, frames chan<- Frame) error {
	defer t.conn.Close()
	data, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oobn, _, from, err := t.conn.Recvmsg(ctx, data, oob, 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENETDOWN):
			// It may come up again, unless it is gone.
			if _, err := netlink.LinkByIndex(t.index); err != nil {
				return fmt.Errorf("interface %s is gone: %w", t.name, err)
			}
			continue
		case err != nil:
			return fmt.Errorf("listen on %s: %w", t.name, err)
		}
		sll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		select {
		case frames <- t.frame(data[:n], oob[:oobn], sll):
		case <-ctx.Done():
			return nil
		}
	}
}

// frame returns what was received as tcpdump would write it.
func (t *tap) frame(data, oob []byte, from *unix.SockaddrLinklayer) Frame {
	at, tag, tagged := control(oob)
	f := Frame{Time: at, Interface: t.name}
	if t.ethernet {
		f.Link, f.Data = layers.LinkTypeEthernet, ethernetFrame(data, tag, tagged)
	} else {
		f.Link, f.Data = layers.LinkTypeLinuxSLL2, cookedFrame(data, from)
	}
	f.Length = len(f.Data)
	return f
}

// ethernetFrame copies a frame and puts its VLAN tag back.
func ethernetFrame(data []byte, tag uint16, tagged bool) []byte {
	const addresses = 12 // bytes before the tag
	if !tagged || len(data) < addresses {
		return slices.Clone(data)
	}
	b := append(make([]byte, 0, len(data)+vlanLen), data[:addresses]...)
	b = binary.BigEndian.AppendUint16(b, etherVLAN)
	return append(binary.BigEndian.AppendUint16(b, tag), data[addresses:]...)
}

// cookedFrame puts a header of LINKTYPE_LINUX_SLL2 before a packet: protocol, two bytes,
// interface, hardware type, packet type, length of the address, the address in 8 bytes.
func cookedFrame(data []byte, from *unix.SockaddrLinklayer) []byte {
	b := make([]byte, 2, 20+len(data))
	binary.NativeEndian.PutUint16(b, from.Protocol) // is in network byte order
	b = binary.BigEndian.AppendUint32(append(b, 0, 0), uint32(from.Ifindex))
	b = binary.BigEndian.AppendUint16(b, from.Hatype)
	b = append(b, from.Pkttype, from.Halen)
	b = append(b, from.Addr[:]...)
	return append(b, data...)
}

// control returns the kernel's time stamp and the VLAN tag (struct tpacket_auxdata of
// linux/if_packet.h).
func control(oob []byte) (at time.Time, tag uint16, tagged bool) {
	at = time.Now()
	msgs, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
			at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20:
			tagged = binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0
			tag = binary.NativeEndian.Uint16(m.Data[16:])
		}
	}
	return at, tag, tagged
}
