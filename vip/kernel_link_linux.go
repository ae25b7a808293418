package vip

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes that carry the settings of an interface (linux/if_link.h), and
// the places of net.ipv6.conf.INTERFACE.forwarding and disable_ipv6 among those of
// IPv6.
const (
	iflaInetConf         = 1
	iflaInet6Conf        = 2
	iflaInet6AddrGenMode = 8
	addrGenModeNone      = 1
	devconf6Forwarding   = 0
	devconf6Disable      = 26
	macvlanModeVEPA      = 2
	macvlanKind          = "macvlan"
)

func (k *linuxKernel) link(index int, name string) (link, error) {
	if name != "" {
		if l, err := k.getLink(0, name); index == 0 || !errors.Is(err, ErrNoInterface) {
			return l, err
		}
	}
	return k.getLink(index, name)
}

// getLink asks for an interface by index, or by name if index is 0. An error names
// the interface either way.
func (k *linuxKernel) getLink(index int, name string) (link, error) {
	what := fmt.Sprintf("interface %q", name)
	if name == "" {
		what = fmt.Sprintf("interface %d", index)
	}
	data := []nl.NetlinkRequestData{linkMessage(index)}
	if index == 0 {
		data = append(data, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	answers, err := k.execute(unix.RTM_GETLINK, 0, unix.RTM_NEWLINK, data...)
	if err != nil {
		return link{}, explain(what, err)
	}
	if len(answers) > 0 {
		if l, ok := parseLink(answers[0]); ok {
			return l, nil
		}
	}
	return link{}, fmt.Errorf("vip: %s: the kernel's answer makes no sense", what)
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK message.
func parseLink(data []byte) (link, bool) {
	if len(data) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	const running = unix.IFF_UP | unix.IFF_RUNNING
	msg := nl.DeserializeIfInfomsg(data)
	l := link{
		index:    int(msg.Index),
		up:       msg.Flags&running == running,
		enabled:  msg.Flags&unix.IFF_UP != 0,
		loopback: msg.Flags&unix.IFF_LOOPBACK != 0,
	}
	var lower int
	var kind string
	for typ, value := range attributes(data[unix.SizeofIfInfomsg:]) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(value)
		case unix.IFLA_ADDRESS:
			l.mac = net.HardwareAddr(value)
		case unix.IFLA_AF_SPEC:
			l.conf4 = attribute(attribute(value, unix.AF_INET), iflaInetConf)
			conf6 := attribute(attribute(value, unix.AF_INET6), iflaInet6Conf)
			l.routes6 = number(conf6, devconf6Forwarding) != 0
			// Without any settings the interface has no IPv6 at all: its MTU is less
			// than 1280, or the kernel runs without.
			l.no6 = len(conf6) == 0 || number(conf6, devconf6Disable) != 0
		case unix.IFLA_LINK:
			lower = int(number(value, 0))
		case unix.IFLA_LINKINFO:
			kind = unix.ByteSliceToString(attribute(value, unix.IFLA_INFO_KIND))
		}
	}
	if kind == macvlanKind {
		l.parent = lower
	}
	l.ethernet = msg.Type == unix.ARPHRD_ETHER && len(l.mac) == 6
	return l, l.name != ""
}

// configure4 goes by netlink, which, unlike /proc/sys, works in the namespace of
// the socket rather than in that of the thread.
func (k *linuxKernel) configure4(index, setting int, value uint32) error {
	return k.change("configure interface", unix.RTM_SETLINK, 0, conf4Message(index, setting, value))
}

func conf4Message(index, setting int, value uint32) []nl.NetlinkRequestData {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	spec.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil).
		AddRtAttr(iflaInetConf|unix.NLA_F_NESTED, nil).
		AddRtAttr(setting, nl.Uint32Attr(value))
	return []nl.NetlinkRequestData{linkMessage(index), spec}
}

func linkMessage(index int) *nl.IfInfomsg {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	return msg
}

func (k *linuxKernel) addMacvlan(name string, parent int, mac net.HardwareAddr) error {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated(macvlanKind))
	// VEPA: nothing passes between the interfaces on one parent. Private is the
	// same, but takes away from the parent what comes from the interface's own
	// address: of two routers that are Active after a split, both with the
	// virtual MAC, neither would hear the other's advertisements there.
	info.AddRtAttr(unix.IFLA_INFO_DATA, nil).AddRtAttr(unix.IFLA_MACVLAN_MODE, nl.Uint32Attr(macvlanModeVEPA))
	if err := k.change(fmt.Sprintf("add interface %s (macvlan)", name), unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, []nl.NetlinkRequestData{
		linkMessage(0),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
		nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(parent))),
		nl.NewRtAttr(unix.IFLA_ADDRESS, mac),
		info,
	}); err != nil {
		return err
	}
	l, err := k.link(0, name)
	if err != nil {
		return err
	}
	// No link-local address of its own: it would be the same on every router.
	// A kernel without IPv6 knows no such setting.
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	spec.AddRtAttr(unix.AF_INET6|unix.NLA_F_NESTED, nil).
		AddRtAttr(iflaInet6AddrGenMode, nl.Uint8Attr(addrGenModeNone))
	return k.change("configure interface "+name, unix.RTM_SETLINK, 0, []nl.NetlinkRequestData{linkMessage(l.index), spec}, unix.EAFNOSUPPORT)
}

func (k *linuxKernel) setUp(index int, up bool) error {
	if up {
		return k.change("set interface up", unix.RTM_NEWLINK, 0, upMessage(index, unix.IFF_UP))
	}
	return k.change("set interface down", unix.RTM_NEWLINK, 0, upMessage(index, 0), unix.ENODEV)
}

func upMessage(index int, flags uint32) []nl.NetlinkRequestData {
	msg := linkMessage(index)
	msg.Change, msg.Flags = unix.IFF_UP, flags
	return []nl.NetlinkRequestData{msg}
}

func (k *linuxKernel) removeLink(index int) error {
	return k.change("remove interface", unix.RTM_DELLINK, 0, []nl.NetlinkRequestData{linkMessage(index)}, unix.ENODEV)
}
