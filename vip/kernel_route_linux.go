package vip

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

var errNoAnswer = errors.New("no answer")

func (k *linuxKernel) putRoute(r Route, index int) error {
	// Without NLM_F_REPLACE: another program's route to the same destination
	// stays. Only our own exact route answers EEXIST.
	_, err := k.execute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_ACK, 0, r.message(index)...)
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return explain("add route to "+r.Destination.String(), err)
}

func (k *linuxKernel) removeRoute(r Route, index int) error {
	// The kernel removes only a route with the protocol that is asked for.
	_, err := k.execute(unix.RTM_DELROUTE, unix.NLM_F_ACK, 0, r.message(index)...)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return explain("remove route to "+r.Destination.String(), err)
}

func (k *linuxKernel) onLink(addr netip.Addr, index int) (bool, error) {
	msg := nl.NewRtMsg()
	msg.Family = unix.AF_INET6
	if addr.Is4() {
		msg.Family = unix.AF_INET
	}
	msg.Dst_len, msg.Flags = uint8(addr.BitLen()), unix.RTM_F_FIB_MATCH
	answers, err := k.execute(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, msg,
		nl.NewRtAttr(unix.RTA_DST, addr.AsSlice()), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil || len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return false, explain("look up "+addr.String(), cmp.Or(err, errNoAnswer))
	}
	// The default route leads everywhere, but by another gateway.
	byDefault := nl.DeserializeRtMsg(answers[0]).Dst_len == 0
	return !byDefault || attribute(answers[0][unix.SizeofRtMsg:], unix.RTA_GATEWAY) == nil, nil
}

func (k *linuxKernel) networks() ([]assigned, error) {
	var out []assigned
	// What the kernel has made itself it tells apart only in a list of what it has
	// heard from routers.
	for _, flags := range []uint32{0, unix.RTM_F_PREFIX} {
		msg := nl.NewRtMsg()
		msg.Family, msg.Flags = unix.AF_INET6, flags
		answers, err := k.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, msg)
		if err != nil {
			return nil, explain("list routes", err)
		}
		for _, a := range answers {
			if n, by, ok := parseNetwork(a); ok && (flags != 0 || by != unix.RTPROT_KERNEL && by != protocol) {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// parseNetwork reads an RTM_NEWROUTE message about an IPv6 network on a link.
func parseNetwork(data []byte) (n assigned, by uint8, ok bool) {
	if len(data) < unix.SizeofRtMsg {
		return n, 0, false
	}
	msg := nl.DeserializeRtMsg(data)
	var dst netip.Addr
	for typ, value := range attributes(data[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			if len(value) == 4 {
				n.index = int(binary.NativeEndian.Uint32(value))
			}
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			return n, 0, false
		}
	}
	n.prefix = netip.PrefixFrom(dst, int(msg.Dst_len))
	return n, msg.Protocol, msg.Type == unix.RTN_UNICAST && n.index != 0 && n.prefix.IsValid() && dst.Is6()
}

func (k *linuxKernel) removeNetwork(a assigned) error {
	msg := nl.NewRtMsg()
	msg.Family = unix.AF_INET6
	msg.Dst_len = uint8(a.prefix.Bits())
	msg.Protocol = unix.RTPROT_KERNEL
	msg.Scope = unix.RT_SCOPE_UNIVERSE
	const metric = 256 // IP6_RT_PRIO_ADDRCONF: nobody but the kernel has both
	_, err := k.execute(unix.RTM_DELROUTE, unix.NLM_F_ACK, 0, msg,
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(a.index))),
		nl.NewRtAttr(unix.RTA_DST, a.prefix.Masked().Addr().AsSlice()),
		nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(metric)))
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return explain("remove route to "+a.prefix.Masked().String(), err)
}

func (k *linuxKernel) routeRemoval(r Route, index int) []byte {
	return request(unix.RTM_DELROUTE, r.message(index))
}

// message returns r as the body of a request (rtnetlink(7), RTM_NEWROUTE).
func (r Route) message(index int) []nl.NetlinkRequestData {
	dst := r.Destination
	msg := nl.NewRtMsg()
	msg.Family = unix.AF_INET6
	if dst.Addr().Is4() {
		msg.Family = unix.AF_INET
	}
	msg.Dst_len = uint8(dst.Bits())
	msg.Table = unix.RT_TABLE_UNSPEC // see RTA_TABLE
	msg.Protocol = protocol
	msg.Scope = unix.RT_SCOPE_UNIVERSE
	out := []nl.NetlinkRequestData{
		msg,
		nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(r.Table)),
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))),
	}
	if dst.Bits() > 0 {
		out = append(out, nl.NewRtAttr(unix.RTA_DST, dst.Addr().AsSlice()))
	}
	switch {
	case r.Gateway.IsValid():
		out = append(out, nl.NewRtAttr(unix.RTA_GATEWAY, r.Gateway.AsSlice()))
	case dst.Addr().Is4():
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if r.Source.IsValid() {
		out = append(out, nl.NewRtAttr(unix.RTA_PREFSRC, r.Source.AsSlice()))
	}
	if r.Metric != 0 {
		out = append(out, nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(r.Metric)))
	}
	return out
}

func (k *linuxKernel) nextHops(v6 bool) ([]nextHop, error) {
	msg := nl.NewRtMsg()
	msg.Family = unix.AF_INET
	if v6 {
		msg.Family = unix.AF_INET6
	}
	answers, err := k.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, msg)
	if err != nil {
		return nil, explain("list routes", err)
	}
	var out []nextHop
	for _, a := range answers {
		out = append(out, parseNextHops(a)...)
	}
	return out, nil
}

// parseNextHops reads an RTM_NEWROUTE message: nothing of a route that goes with an
// address.
func parseNextHops(data []byte) []nextHop {
	if len(data) < unix.SizeofRtMsg {
		return nil
	}
	msg := nl.DeserializeRtMsg(data)
	n := nextHop{to: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if msg.Family == unix.AF_INET6 {
		n.to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	var paths []byte
	for typ, value := range attributes(data[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST:
			dst, _ := netip.AddrFromSlice(value)
			n.to = netip.PrefixFrom(dst, int(msg.Dst_len))
		case unix.RTA_PREFSRC:
			n.source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			if len(value) == 4 {
				n.index = int(binary.NativeEndian.Uint32(value))
			}
		case unix.RTA_GATEWAY:
			n.gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_MULTIPATH:
			paths = value
		}
	}
	connected := msg.Protocol == unix.RTPROT_KERNEL && msg.Dst_len > 0 && !n.gateway.IsValid()
	if connected || msg.Protocol == protocol || msg.Protocol == unix.RTPROT_KEEPALIVED {
		return nil
	}
	out := []nextHop{n}
	for len(paths) >= unix.SizeofRtNexthop { // struct rtnexthop
		size := int(binary.NativeEndian.Uint16(paths))
		if size < unix.SizeofRtNexthop || size > len(paths) {
			break
		}
		n.index = int(binary.NativeEndian.Uint32(paths[4:]))
		n.gateway, _ = netip.AddrFromSlice(attribute(paths[unix.SizeofRtNexthop:size], unix.RTA_GATEWAY))
		out = append(out, n)
		paths = paths[min((size+3)&^3, len(paths)):]
	}
	return out
}
