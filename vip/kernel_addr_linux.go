package vip

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (k *linuxKernel) addresses() ([]assigned, error) {
	msgs, err := k.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, explain("list addresses", err)
	}
	out := make([]assigned, 0, len(msgs))
	for _, m := range msgs {
		if a, ok := parseAddress(m); ok {
			out = append(out, a)
		}
	}
	return out, nil
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
	_, err := k.execute(unix.RTM_DELADDR, unix.NLM_F_ACK, 0, a.message()...)
	// The address went, or the interface did.
	return explain("remove "+a.prefix.String(), except(err, unix.EADDRNOTAVAIL, unix.ENODEV))
}

func (k *linuxKernel) removal(a assigned) []byte {
	return request(unix.RTM_DELADDR, a.message())
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
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b, preferred)
	binary.NativeEndian.PutUint32(b[4:], valid)
	return b
}
