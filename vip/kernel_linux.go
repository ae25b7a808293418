package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/havip/havip/vip/internal/hook"
)

// linuxKernel implements kernel with sockets that are all opened at once. A socket stays in
// the network namespace of the thread that has opened it, so the methods may run on any
// thread.
type linuxKernel struct {
	requests *nl.SocketHandle
	watcher  *nl.NetlinkSocket
	frames   *socket.Conn     // AF_PACKET, not bound: sends on any interface, even one that was made later
	arp      *socket.Conn     // AF_PACKET: hears ARP on every interface
	icmp     *ipv6.PacketConn // hears neighbour advertisements
	hearing  []func() (sighting, error)
	filter   hook.Filter
	undo     []func() // closes the sockets
	closed   atomic.Bool
	recorded *[][]byte // see record
}

var _ kernel = (*linuxKernel)(nil)

const (
	// watchBuffer holds about ten thousand notifications.
	watchBuffer = 4 << 20
	// requestTimeout is far longer than the kernel takes to answer.
	requestTimeout = 5e9 // ns
	// dumpTries bounds the repetitions of a list that changed while it was
	// being read.
	dumpTries = 20
)

// openKernel opens the sockets in the calling thread's network namespace.
func openKernel() (kernel, error) {
	k := &linuxKernel{}
	if err := k.open(); err != nil {
		k.close()
		return nil, explain("open sockets", err)
	}
	return k, nil
}

func (k *linuxKernel) open() error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	k.undo = append(k.undo, s.Close)
	k.requests = &nl.SocketHandle{Socket: s}
	timeout := unix.NsecToTimeval(requestTimeout)
	if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout), s.SetExtAck(true)); err != nil {
		return err
	}
	k.watcher, err = nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	k.undo = append(k.undo, k.watcher.Close)
	// Without privileges over the machine net.core.rmem_max is the limit. An overrun
	// is then more likely, and is handled.
	if k.watcher.SetReceiveBufferSize(watchBuffer, true) != nil {
		_ = k.watcher.SetReceiveBufferSize(watchBuffer, false)
	}
	// Protocol 0: this socket receives nothing.
	k.frames, err = socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
	if err != nil {
		return err
	}
	k.undo = append(k.undo, func() { k.frames.Close() })
	if err := k.openFilter(); err != nil {
		return err
	}
	return k.openListeners()
}

func (k *linuxKernel) close() {
	k.closed.Store(true)
	for _, undo := range k.undo {
		undo()
	}
}

// execute sends one request and returns the payloads of the answers.
func (k *linuxKernel) execute(typ, flags int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	req := nl.NewNetlinkRequest(typ, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.requests}
	req.Data = data
	return req.Execute(unix.NETLINK_ROUTE, answer)
}

// change sends a request that changes something. An error among harmless is as good as
// none.
func (k *linuxKernel) change(what string, typ, flags int, data []nl.NetlinkRequestData, harmless ...error) error {
	if k.recorded != nil {
		*k.recorded = append(*k.recorded, request(typ, data))
		return nil
	}
	_, err := k.execute(typ, flags|unix.NLM_F_ACK, 0, data...)
	return explain(what, except(err, harmless...))
}

func (k *linuxKernel) record(do func(kernel)) (requests [][]byte) {
	do(&linuxKernel{recorded: &requests})
	return requests
}

// list asks for a list, and again if the list has changed meanwhile. It leaves out what
// parse does not understand.
func list[T any](k *linuxKernel, what string, typ int, answer uint16, parse func([]byte) (T, bool), data ...nl.NetlinkRequestData) ([]T, error) {
	msgs, err := k.execute(typ, unix.NLM_F_DUMP, answer, data...)
	for n := 1; n < dumpTries && errors.Is(err, nl.ErrDumpInterrupted); n++ {
		msgs, err = k.execute(typ, unix.NLM_F_DUMP, answer, data...)
	}
	if err != nil {
		return nil, explain("list "+what, err)
	}
	out := make([]T, 0, len(msgs))
	for _, m := range msgs {
		if v, ok := parse(m); ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// request returns a request to which the kernel answers only if it fails.
func request(typ int, data []nl.NetlinkRequestData) []byte {
	req := nl.NewNetlinkRequest(typ, 0)
	req.Seq = 0 // the same request has the same bytes
	req.Data = data
	return req.Serialize()
}

// except returns err, unless err is one of those that are harmless.
func except(err error, harmless ...error) error {
	if slices.ContainsFunc(harmless, func(h error) bool { return errors.Is(err, h) }) {
		return nil
	}
	return err
}

// family returns the address family of addr.
func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// explain adds to an error what its reader can do about it.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("vip: %s: needs CAP_NET_ADMIN and CAP_NET_RAW: %w", what, err)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("vip: %s: %w", what, ErrNoInterface)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("vip: %s: IPv6 is disabled on the interface (net.ipv6.conf.*.disable_ipv6): %w", what, err)
	}
	return fmt.Errorf("vip: %s: %w", what, err)
}

func (k *linuxKernel) send(index int, frame []byte) error {
	to := &unix.SockaddrLinklayer{
		Ifindex:  index,
		Protocol: binary.NativeEndian.Uint16(frame[12:14]),
		Halen:    6,
	}
	copy(to.Addr[:], frame[:6])
	raw, err := k.frames.SyscallConn()
	if err != nil {
		return explain("send", err)
	}
	// Not Conn.Sendto, which waits while the interface's queue is full.
	ctl := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, to) })
	return explain("send", errors.Join(ctl, err))
}

func (k *linuxKernel) watch() ([]change, error) {
	msgs, from, err := k.watcher.Receive()
	switch {
	case k.closed.Load():
		return nil, ErrClosed
	case errors.Is(err, unix.ENOBUFS):
		// The kernel has dropped notifications, and says so. The subscription goes
		// on; the caller must look at everything.
		return []change{{kind: overrun}}, nil
	case err != nil:
		return []change{{kind: overrun}}, explain("watch", err)
	case from.Pid != nl.PidKernel:
		return nil, nil // from another process, not from the kernel
	}
	var out []change
	for _, m := range msgs {
		if c, ok := parseChange(m.Header.Type, m.Data); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// parseChange reads one notification, and passes over unknown ones.
func parseChange(typ uint16, data []byte) (change, bool) {
	switch typ {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := parseAddress(data)
		kind := addressAdded
		if typ == unix.RTM_DELADDR {
			kind = addressRemoved
		}
		return change{kind: kind, addr: a.prefix.Addr(), index: a.index, mark: a.mark == protocol}, ok
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, ok := parseLink(data)
		return change{kind: linkChanged, name: l.name, index: l.index}, ok
	case unix.RTM_DELROUTE:
		return change{kind: routeRemoved}, len(data) >= unix.SizeofRtMsg && data[5] == protocol
	}
	return change{}, false
}

// attributes walks over a list of attributes (struct rtattr), up to the first invalid one.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ unix.NLA_F_NESTED
			if size < unix.SizeofRtAttr || size > len(b) || !yield(typ, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// attribute returns one attribute of a list, or nil.
func attribute(b []byte, typ uint16) []byte {
	for t, value := range attributes(b) {
		if t == typ {
			return value
		}
	}
	return nil
}

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
		k.undo = append(k.undo, func() { filter.Close() })
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
