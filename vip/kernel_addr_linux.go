package vip

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (k *linuxKernel) addresses() ([]assigned, error) {
	return list(k, "addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, parseAddress, nl.NewIfAddrmsg(unix.AF_UNSPEC))
}

func (k *linuxKernel) put(a assigned, fresh bool) error {
	// inet_rtm_newaddr and inet6_rtm_newaddr change the lifetime, and the mark, of
	// an address that is there already.
	mode := unix.NLM_F_REPLACE
	if fresh {
		mode = unix.NLM_F_EXCL
	}
	_, err := k.execute(unix.RTM_NEWADDR, unix.NLM_F_CREATE|mode|unix.NLM_F_ACK, 0, a.message()...)
	if errors.Is(err, unix.EEXIST) {
		err = nil
		if fresh {
			err = ErrInUse // another program was faster with the same address
		}
	}
	return explain("add "+a.prefix.String(), err)
}

func (k *linuxKernel) remove(a assigned) error {
	// Without harm: the address went, or the interface did.
	return k.change("remove "+a.prefix.String(), unix.RTM_DELADDR, 0, a.message(), unix.EADDRNOTAVAIL, unix.ENODEV)
}

// ifaProto is IFA_PROTO of linux/if_addr.h, since 5.18; older kernels pass over it.
const ifaProto = 11

// message returns a as the body of a request (rtnetlink(7), RTM_NEWADDR).
func (a assigned) message() []nl.NetlinkRequestData {
	addr := a.prefix.Addr()
	msg := nl.NewIfAddrmsg(family(addr))
	msg.Index = uint32(a.index)
	msg.Prefixlen = uint8(a.prefix.Bits())
	msg.Scope = uint8(a.scope)
	out := []nl.NetlinkRequestData{
		msg,
		nl.NewRtAttr(unix.IFA_LOCAL, addr.AsSlice()),
		nl.NewRtAttr(unix.IFA_ADDRESS, addr.AsSlice()),
		nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(a.flags)),
		nl.NewRtAttr(unix.IFA_CACHEINFO, a.lifetimes()),
		nl.NewRtAttr(ifaProto, nl.Uint8Attr(a.mark)),
	}
	if addr.Is4() && a.prefix.Bits() < 31 { // RFC 3021: /31 and /32 have no broadcast address
		broadcast := addr.As4()
		host := uint32(math.MaxUint32) >> a.prefix.Bits()
		binary.BigEndian.PutUint32(broadcast[:], binary.BigEndian.Uint32(broadcast[:])|host)
		out = append(out, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast[:]))
	}
	if a.label != "" {
		out = append(out, nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.label)))
	}
	return out
}

const infinity = math.MaxUint32 // INFINITY_LIFE_TIME

// lifetimes returns struct ifa_cacheinfo: preferred, valid, and two fields that
// only the kernel sets.
func (a assigned) lifetimes() []byte {
	valid := uint32(infinity)
	if a.valid > 0 {
		valid = uint32(a.valid / time.Second)
	}
	preferred := valid
	if a.prefix.Addr().Is6() {
		// Deprecated, so never chosen as a source address (RFC 6724 §5 rule 3).
		preferred = 0
	}
	info := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: preferred, Valid: valid}}
	return info.Serialize()
}

// parseAddress reads an RTM_NEWADDR or RTM_DELADDR message.
func parseAddress(data []byte) (assigned, bool) {
	if len(data) < unix.SizeofIfAddrmsg {
		return assigned{}, false
	}
	msg := nl.DeserializeIfAddrmsg(data)
	a := assigned{index: int(msg.Index), scope: Scope(msg.Scope), flags: uint32(msg.Flags)}
	var local, address []byte
	for typ, value := range attributes(data[unix.SizeofIfAddrmsg:]) {
		switch typ {
		case unix.IFA_LOCAL:
			local = value
		case unix.IFA_ADDRESS:
			address = value
		case unix.IFA_LABEL:
			a.label = unix.ByteSliceToString(value)
		case unix.IFA_FLAGS:
			a.flags = number(value, 0)
		case ifaProto:
			if len(value) == 1 {
				a.mark = value[0]
			}
		case unix.IFA_CACHEINFO: // as lifetimes writes it
			if len(value) == 16 && binary.NativeEndian.Uint32(value[4:]) != infinity {
				a.valid = time.Duration(binary.NativeEndian.Uint32(value[4:])) * time.Second
			}
		}
	}
	if local == nil { // IPv6; on a point-to-point link IFA_ADDRESS is the peer's
		local = address
	}
	addr, ok := netip.AddrFromSlice(local)
	a.prefix = netip.PrefixFrom(addr, int(msg.Prefixlen))
	return a, ok && a.prefix.IsValid()
}

func (k *linuxKernel) putRoute(r Route, index int) error {
	// Without NLM_F_REPLACE: another program's route to the same destination
	// stays. Only our own exact route answers EEXIST.
	return k.change("add route to "+r.Destination.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE, r.message(index), unix.EEXIST)
}

func (k *linuxKernel) removeRoute(r Route, index int) error {
	// The kernel removes only a route with the protocol that is asked for.
	return k.change("remove route to "+r.Destination.String(), unix.RTM_DELROUTE, 0, r.message(index), unix.ESRCH, unix.ENODEV)
}

func (k *linuxKernel) onLink(addr netip.Addr, index int) (bool, error) {
	msg := routeMessage(family(addr), addr.BitLen())
	msg.Flags = unix.RTM_F_FIB_MATCH
	answers, err := k.execute(unix.RTM_GETROUTE, 0, unix.RTM_NEWROUTE, msg,
		nl.NewRtAttr(unix.RTA_DST, addr.AsSlice()), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil || len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return false, explain("look up "+addr.String(), cmp.Or(err, errors.New("no answer")))
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
		routes, err := k.listRoutes(unix.AF_INET6, flags)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			heard := flags != 0 || r.by != unix.RTPROT_KERNEL && r.by != protocol
			if heard && r.onNetwork() {
				out = append(out, assigned{index: r.index, prefix: r.to})
			}
		}
	}
	return out, nil
}

func (k *linuxKernel) removeNetwork(a assigned) error {
	msg := routeMessage(unix.AF_INET6, a.prefix.Bits())
	msg.Protocol = unix.RTPROT_KERNEL
	const metric = 256 // IP6_RT_PRIO_ADDRCONF: nobody but the kernel has both
	return k.change("remove route to "+a.prefix.Masked().String(), unix.RTM_DELROUTE, 0, []nl.NetlinkRequestData{
		msg,
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(a.index))),
		nl.NewRtAttr(unix.RTA_DST, a.prefix.Masked().Addr().AsSlice()),
		nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(metric)),
	}, unix.ESRCH, unix.ENODEV)
}

// routeMessage begins the body of a request about a route, everywhere by default
// (RT_SCOPE_UNIVERSE).
func routeMessage(family, length int) *nl.RtMsg {
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len = uint8(family), uint8(length)
	return msg
}

// message returns r as the body of a request (rtnetlink(7), RTM_NEWROUTE).
func (r Route) message(index int) []nl.NetlinkRequestData {
	dst := r.Destination
	msg := routeMessage(family(dst.Addr()), dst.Bits())
	msg.Table = unix.RT_TABLE_UNSPEC // see RTA_TABLE
	msg.Protocol = protocol
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

func (k *linuxKernel) nextHops(addr netip.Addr) ([]nextHop, error) {
	routes, err := k.listRoutes(family(addr), 0)
	var out []nextHop
	for _, r := range routes {
		if !r.withAddress() {
			out = append(append(out, r.nextHop), r.paths()...)
		}
	}
	return out, err
}

// listed is a route of the kernel's list.
type listed struct {
	nextHop
	by, kind  uint8  // RTPROT_* and RTN_*
	via       bool   // there is a gateway, perhaps of the other family
	multipath []byte // further next hops
}

// listRoutes lists the routes of a family; flags are those of struct rtmsg.
func (k *linuxKernel) listRoutes(family int, flags uint32) ([]listed, error) {
	msg := routeMessage(family, 0)
	msg.Flags = flags
	return list(k, "routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, parseRoute, msg)
}

// parseRoute reads an RTM_NEWROUTE message.
func parseRoute(data []byte) (r listed, ok bool) {
	if len(data) < unix.SizeofRtMsg {
		return r, false
	}
	msg := nl.DeserializeRtMsg(data)
	r.by, r.kind = msg.Protocol, msg.Type
	to := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	for typ, value := range attributes(data[unix.SizeofRtMsg:]) {
		switch typ {
		case unix.RTA_DST:
			to, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.index = int(number(value, 0))
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(value)
			r.via = true
		case unix.RTA_VIA:
			r.via = true
		case unix.RTA_MULTIPATH:
			r.multipath = value
		}
	}
	r.to = netip.PrefixFrom(to, int(msg.Dst_len))
	return r, true
}

// onNetwork reports whether a route leads to a network on a link.
func (r listed) onNetwork() bool {
	return r.kind == unix.RTN_UNICAST && r.index != 0 && !r.via && r.to.Bits() > 0
}

// withAddress reports whether a route goes with an address.
func (r listed) withAddress() bool {
	connected := r.by == unix.RTPROT_KERNEL && r.to.Bits() > 0 && !r.gateway.IsValid()
	return connected || r.by == protocol || r.by == unix.RTPROT_KEEPALIVED
}

// paths returns the next hops of a route with several (struct rtnexthop).
func (r listed) paths() (out []nextHop) {
	n := r.nextHop
	for b := r.multipath; len(b) >= unix.SizeofRtNexthop; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		n.index = int(binary.NativeEndian.Uint32(b[4:]))
		n.gateway, _ = netip.AddrFromSlice(attribute(b[unix.SizeofRtNexthop:size], unix.RTA_GATEWAY))
		out = append(out, n)
		b = b[min((size+3)&^3, len(b)):]
	}
	return out
}
