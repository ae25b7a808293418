package vrrp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelNetwork is an interface in the network namespace in which it was opened. Its
// sockets stay there. It keeps a handle of the namespace for sockets that are opened later.
type kernelNetwork struct {
	name   string
	index  int // of the interface that was seen last; 0: none
	family family
	ns     *os.File
	events *os.File // a netlink socket subscribed to links and addresses
	rtnl   *netlink.Handle
}

// openNetwork opens the interface in the namespace of the calling thread.
func openNetwork(name string, fam family) (network, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	rtnl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	n := &kernelNetwork{name: name, family: fam, rtnl: rtnl}
	if n.ns, err = os.Open(threadNamespace); err == nil {
		n.events, err = subscribe(fam)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// eventBuffer holds some thousand events.
const eventBuffer = 4 << 20

// subscribe opens a netlink socket that hears of links and addresses.
func subscribe(fam family) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	// best effort: lost events make waitEvent return, and the Conn looks again
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR)
	if fam == familyIPv6 {
		groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV6_IFADDR
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		f.Close()
		return nil, os.NewSyscallError("netlink bind", err)
	}
	return f, nil
}

func (n *kernelNetwork) close() {
	n.events.Close()
	n.ns.Close()
	n.rtnl.Close()
}

func (n *kernelNetwork) lookUp() (netif, error) {
	nif := netif{name: n.name}
	link, err := n.rtnl.LinkByName(n.name)
	_, missing := errors.AsType[netlink.LinkNotFoundError](err)
	if missing && n.index != 0 {
		link, err = n.rtnl.LinkByIndex(n.index) // renamed
		_, missing = errors.AsType[netlink.LinkNotFoundError](err)
	}
	if missing {
		return nif, nil
	}
	if err != nil {
		return nif, fmt.Errorf("netlink: %s: %w", n.name, err)
	}
	attrs := link.Attrs()
	nif.name, nif.index, n.index = attrs.Name, attrs.Index, attrs.Index
	nif.up = attrs.RawFlags&unix.IFF_UP != 0 && attrs.RawFlags&unix.IFF_RUNNING != 0
	nif.multicast = attrs.RawFlags&unix.IFF_MULTICAST != 0
	nif.ethernet = attrs.EncapType == "ether"
	nif.mtu, nif.mac = attrs.MTU, attrs.HardwareAddr
	rtFamily := unix.AF_INET
	if n.family == familyIPv6 {
		rtFamily = unix.AF_INET6
	}
	var addrs []netlink.Addr
	for range 10 {
		// A dump that a change interrupted may lack addresses.
		if addrs, err = n.rtnl.AddrList(link, rtFamily); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nif, fmt.Errorf("netlink: addresses of %s: %w", n.name, err)
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			nif.addrs = append(nif.addrs, ifaddr{
				addr:      addr.Unmap(),
				tentative: a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
				avoid:     a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED) != 0,
			})
		}
	}
	return nif, nil
}

// lull is how long waitEvent lets events accumulate after events of no concern. The holder
// of hundreds of addresses renews them all the time, and each renewal would cost a
// wake-up. The loss of an interface is noticed later by a lull at most, which is less
// than any other way takes.
const lull = 20 * time.Millisecond

func (n *kernelNetwork) waitEvent(concerns func(linkEvent) bool) (lost bool, err error) {
	raw, err := n.events.SyscallConn()
	if err != nil {
		return false, err
	}
	var events []linkEvent
	for buf := make([]byte, 1<<16); ; time.Sleep(lull) {
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			events, failed = readEvents(int(fd), buf, events[:0])
			return len(events) > 0 || failed != unix.EAGAIN
		})
		concerned := false
		for _, e := range events {
			if concerns(e) {
				concerned, lost = true, lost || e.gone
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // wake was called
			return true, n.events.SetReadDeadline(time.Time{})
		case err != nil:
			return false, err
		case failed == unix.ENOBUFS:
			return true, nil
		case failed != unix.EAGAIN:
			return false, os.NewSyscallError("netlink read", failed)
		case concerned:
			return lost, nil
		}
	}
}

func (n *kernelNetwork) wake() { n.events.SetReadDeadline(past) }

// readEvents appends the events that have come, and returns the error that ends them. Each
// read of the socket returns one event: hundreds may wait.
func readEvents(fd int, buf []byte, events []linkEvent) ([]linkEvent, error) {
	for {
		size, err := unix.Read(fd, buf)
		if err != nil {
			return events, err
		}
		messages, _ := syscall.ParseNetlinkMessage(buf[:size])
		for i := range messages {
			if e, ok := parseEvent(&messages[i]); ok {
				events = append(events, e)
			}
		}
	}
}

// parseEvent reads one rtnetlink message.
func parseEvent(m *syscall.NetlinkMessage) (e linkEvent, ok bool) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return e, false
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return e, false
	}
	// ifinfomsg and ifaddrmsg have the index at the same place
	e.index = int(binary.NativeEndian.Uint32(m.Data[4:]))
	kind := m.Header.Type
	e.gone = kind == unix.RTM_DELLINK || kind == unix.RTM_DELADDR
	isLink := kind == unix.RTM_NEWLINK || kind == unix.RTM_DELLINK
	for _, a := range attrs {
		switch t := a.Attr.Type; {
		case isLink && t == unix.IFLA_IFNAME:
			e.name = unix.ByteSliceToString(a.Value)
		// IFA_LOCAL is the host's own address. Only IPv4 has it, with the address of a
		// point-to-point peer in IFA_ADDRESS.
		case !isLink && (t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !e.addr.IsValid()):
			e.addr, _ = netip.AddrFromSlice(a.Value)
		}
	}
	return e, true
}

func (n *kernelNetwork) openSocket(nif *netif, protocol uint8) (PacketConn, error) {
	return openThere(n, func() (PacketConn, error) { return openRaw(nif, n.family, protocol) })
}

func (n *kernelNetwork) openFrames(nif *netif) (packetWriter, error) {
	return openThere(n, func() (packetWriter, error) { return openFrames(nif, n.family) })
}

func (n *kernelNetwork) openOwners(nif *netif) (ownerReader, error) {
	if n.family != familyIPv4 {
		return nil, nil
	}
	return openThere(n, func() (ownerReader, error) { return openOwners(nif) })
}

// openThere opens a socket in n's namespace.
func openThere[T any](n *kernelNetwork, open func() (T, error)) (socket T, err error) {
	err = inNamespace(n.ns, func() error {
		socket, err = open()
		return err
	})
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: raw sockets need root or CAP_NET_RAW", err)
	}
	return socket, err
}

const threadNamespace = "/proc/thread-self/ns/net"

// inNamespace runs f on a thread in the network namespace ns: on this thread if it is
// there already, since setns wants CAP_SYS_ADMIN even where it would change nothing. A new
// goroutine runs on a thread in the process's own namespace, whatever the namespace of
// the thread that starts it.
func inNamespace(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if isCurrent(ns) {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// isCurrent reports whether the calling thread is in ns.
func isCurrent(ns *os.File) bool {
	own, err := os.Stat(threadNamespace)
	if err != nil {
		return false
	}
	other, err := ns.Stat()
	return err == nil && os.SameFile(own, other)
}

// reserveVRID binds an abstract Unix socket. Its name is known in the network namespace
// only, and goes when the process ends in any way.
func (n *kernelNetwork) reserveVRID(vrid uint8) (lock io.Closer, err error) {
	name := fmt.Sprintf("@havip/vrrp/%s/%v/%d", n.name, n.family, vrid)
	err = inNamespace(n.ns, func() error {
		l, err := net.Listen("unix", name)
		if errors.Is(err, unix.EADDRINUSE) {
			return holder(name)
		}
		if err == nil {
			lock = newSocketLock(l)
		}
		return err
	})
	return lock, err
}

// socketLock is the socket of a lock. Processes connect to it to learn who has the lock.
type socketLock struct {
	net.Listener
	wg sync.WaitGroup
}

func newSocketLock(l net.Listener) *socketLock {
	s := &socketLock{Listener: l}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // no descriptor is free
				time.Sleep(reserveEvery)
				continue
			}
			c.Close()
		}
	})
	return s
}

func (s *socketLock) Close() error {
	err := s.Listener.Close()
	s.wg.Wait()
	return err
}

// holder returns who listens on an abstract socket, as a takenError. The error is another
// one if the listener belongs to a user who could not run a router here: any user may bind
// any name.
func holder(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		// the process is about to end, or has not begun to listen, or never will
		return &takenError{by: fmt.Sprintf("nobody who answers on the socket %s (%v)", name, err), silent: true}
	}
	// the kernel's word for the process that called listen
	who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("SO_PEERCRED", err)
	}
	if who.Uid != 0 && int(who.Uid) != os.Geteuid() {
		return fmt.Errorf("the socket %s is taken by %s of user %d", name, process(who.Pid), who.Uid)
	}
	return &takenError{by: process(who.Pid)}
}

// process describes a process.
func process(pid int32) string {
	switch {
	case pid == int32(os.Getpid()):
		return "this process"
	case pid == 0:
		return "a process in another PID namespace"
	}
	const most = 120
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	// control characters end an argument, or garble a line
	words := strings.FieldsFunc(strings.ToValidUTF8(string(line[:min(len(line), most)]), ""), unicode.IsControl)
	if len(words) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.Join(words, " "))
}
