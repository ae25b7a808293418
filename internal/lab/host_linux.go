package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a network namespace with interfaces on segments of a [Lab].
type Host struct {
	namespace
	lab  *Lab
	name string
	// ports are the switch's ends of the interfaces, by the names of these. lab.mu guards them.
	ports map[string]*netlink.Veth
}

// Name returns the name that the host was made with.
func (h *Host) Name() string { return h.name }

// Netlink returns a handle in the host, for what the methods here do not offer. It
// is closed with the lab.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Attach adds an interface on the segment s with these addresses and waits until
// the link is up and forwards.
func (h *Host) Attach(name string, s *Segment, addrs ...netip.Prefix) error {
	fail := func(err error) error { return h.errorf("%s: %w", name, err) }
	l := h.lab
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fail(net.ErrClosed)
	}
	l.ports++
	n := l.ports
	l.mu.Unlock()

	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("port%d", n)
	attrs.MasterIndex = s.bridge.Index
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(h.ns),
		PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)},
	}
	if err := l.nl.LinkAdd(veth); err != nil {
		return fail(err)
	}
	l.mu.Lock()
	h.ports[name] = veth
	l.mu.Unlock()
	if err := h.SetLink(name, true); err != nil {
		return err
	}
	if err := h.Restore(name); err != nil {
		return err
	}
	for _, a := range addrs {
		if err := h.AddAddr(name, a); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return nil // a kernel without IPv6
	}
	return h.waitUsable(netip.AddrFrom16([16]byte{0xfe, 0x80, 11: 0xff, 12: 0xfe, 14: byte(n >> 8), 15: byte(n)}))
}

// AddAddr adds an address to one of the host's interfaces and waits until it can
// be used.
func (h *Host) AddAddr(ifname string, p netip.Prefix) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return h.errorf("%s: %w", ifname, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.nl.AddrAdd(link, addr); err != nil {
		return h.errorf("%s: add %v: %w", ifname, p, err)
	}
	if p.Addr().Is6() {
		return h.waitUsable(p.Addr())
	}
	return nil
}

// waitUsable waits until the host accepts packets for an IPv6 address. The kernel
// adds the local route last, from a work queue, even without duplicate address
// detection; what comes before that is lost, and repeated a second later.
func (h *Host) waitUsable(a netip.Addr) error {
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(128, 128)}}
	return poll(10*time.Second, func() error {
		routes, err := h.nl.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil {
			return h.errorf("local routes: %w", err)
		}
		if len(routes) == 0 {
			return h.errorf("%v is not usable", a)
		}
		return nil
	})
}

// SetLink sets one of the host's interfaces up or down, as its administrator
// does. Down removes its routes and IPv6 addresses.
func (h *Host) SetLink(ifname string, up bool) error {
	link, err := h.nl.LinkByName(ifname)
	if err == nil {
		err = setLink(h.nl, link, up)
	}
	if err != nil {
		return h.errorf("%s: set link: %w", ifname, err)
	}
	return nil
}

func setLink(nl *netlink.Handle, link netlink.Link, up bool) error {
	if up {
		return nl.LinkSetUp(link)
	}
	return nl.LinkSetDown(link)
}

// Cut pulls the cable out of these interfaces, of all if none is named: they lose
// their carrier, which the host sees. It returns once the host can see it.
func (h *Host) Cut(ifnames ...string) error { return h.setCarrier(ifnames, false) }

// Restore undoes [Host.Cut] and returns once the link is up and forwards.
func (h *Host) Restore(ifnames ...string) error { return h.setCarrier(ifnames, true) }

func (h *Host) setCarrier(ifnames []string, up bool) error {
	return h.eachPort(ifnames, func(name string, port *netlink.Veth) error {
		if err := setLink(h.lab.nl, port, up); err != nil {
			return err
		}
		return h.waitCarrier(name, up)
	})
}

// Isolate takes these interfaces, all if none is named, off their segments and
// leaves their carrier, as when the switch behind the next one dies.
func (h *Host) Isolate(ifnames ...string) error {
	return h.eachPort(ifnames, func(_ string, port *netlink.Veth) error { return h.lab.nl.LinkSetNoMaster(port) })
}

// Rejoin undoes [Host.Isolate].
func (h *Host) Rejoin(ifnames ...string) error {
	return h.eachPort(ifnames, func(_ string, port *netlink.Veth) error {
		return h.lab.nl.LinkSetMasterByIndex(port, port.MasterIndex)
	})
}

// eachPort calls f for the ports of the named interfaces, for all if none is named.
func (h *Host) eachPort(ifnames []string, f func(name string, port *netlink.Veth) error) error {
	h.lab.mu.Lock()
	ports := maps.Clone(h.ports)
	h.lab.mu.Unlock()
	if len(ifnames) == 0 {
		ifnames = slices.Collect(maps.Keys(ports))
	}
	for _, name := range ifnames {
		if ports[name] == nil {
			return h.errorf("no interface %s", name)
		}
		if err := f(name, ports[name]); err != nil {
			return h.errorf("%s: %w", name, err)
		}
	}
	return nil
}

// waitCarrier waits until both ends of a link know whether it has a carrier. The
// kernel tells them from a work queue, and only then does the bridge forward.
func (h *Host) waitCarrier(ifname string, want bool) error {
	h.lab.mu.Lock()
	port := h.ports[ifname]
	h.lab.mu.Unlock()
	return poll(10*time.Second, func() error {
		inside, err := h.nl.LinkByName(ifname)
		if err != nil {
			return h.errorf("%s: %w", ifname, err)
		}
		outside, err := h.lab.nl.LinkByIndex(port.Index)
		if err != nil {
			return h.errorf("%s: %w", ifname, err)
		}
		// An interface that its host has set down gets no carrier.
		if inside.Attrs().Flags&net.FlagUp == 0 {
			return nil
		}
		if in, out := inside.Attrs().OperState, outside.Attrs().OperState; (in == netlink.OperUp) != want || (out == netlink.OperUp) != want {
			return h.errorf("%s: link is %v, its switch port %v", ifname, in, out)
		}
		return nil
	})
}

// Addrs returns the host's addresses on all interfaces, without 127.0.0.1 and ::1.
func (h *Host) Addrs() ([]netip.Prefix, error) {
	list, err := h.nl.AddrList(nil, netlink.FAMILY_ALL)
	// An address changed while the kernel was listing: ask again.
	for i := 0; errors.Is(err, netlink.ErrDumpInterrupted) && i < 100; i++ {
		list, err = h.nl.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, h.errorf("addresses: %w", err)
	}
	var addrs []netip.Prefix
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if ip = ip.Unmap(); !ip.IsLoopback() {
			addrs = append(addrs, netip.PrefixFrom(ip, bits))
		}
	}
	return addrs, nil
}

// Holds reports whether one of the host's interfaces has the address now.
func (h *Host) Holds(addr netip.Addr) bool {
	addrs, err := h.Addrs()
	return err == nil && slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr() == addr.Unmap() })
}

// Do runs f inside the host and returns f's error. f may call t.Fatal. Goroutines
// that f starts run outside of the host.
func (h *Host) Do(f func() error) error { return within(h.ns, f) }

// Sysctl sets a kernel variable of the host, such as net.ipv4.ip_forward.
func (h *Host) Sysctl(key, value string) error {
	if err := h.Do(func() error { return writeSysctl(key, value) }); err != nil {
		return h.errorf("sysctl: %w", err)
	}
	return nil
}

// Listen is net.Listen inside the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	return inside(h, func() (net.Listener, error) { return net.Listen(network, address) })
}

// ListenPacket is net.ListenPacket inside the host.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	return inside(h, func() (net.PacketConn, error) { return net.ListenPacket(network, address) })
}

// DialContext connects from the host. It has the signature of the field of that
// name in http.Transport. The address is literal: names are not looked up inside.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return inside(h, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// inside is [Host.Do] for what returns a socket.
func inside[T any](h *Host, open func() (T, error)) (socket T, err error) {
	err = h.Do(func() error {
		socket, err = open()
		return err
	})
	return socket, err
}

func (h *Host) errorf(format string, args ...any) error {
	return fmt.Errorf("lab: host %s: %w", h.name, fmt.Errorf(format, args...))
}
