package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lab is a set of hosts and the switch that joins them. Its methods may be called
// from several goroutines.
type Lab struct {
	t TB // nil unless made by New
	namespace

	mu       sync.Mutex
	closed   bool
	segments map[string]*Segment
	hosts    []*Host
	commands []*Cmd
	captures []*Capture
	ports    int
}

// Segment is one Ethernet: a bridge in the switch's namespace, without spanning
// tree, multicast snooping or addresses of its own.
type Segment struct {
	lab    *Lab
	bridge *netlink.Bridge
}

// New opens a lab that is closed when the test ends. It skips the test where
// labs are not permitted, or fails it if HAVIP_REQUIRE is "all". When the test has
// failed, the output of the programs that ran in the lab is logged.
func New(t TB) *Lab {
	t.Helper()
	l, err := Open()
	if errors.Is(err, ErrForbidden) {
		Lacking(t, cmp.Or(forbidden, err).Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	l.t = t
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Open opens a lab; the caller closes it. The error is [ErrForbidden] if the
// process may not make network namespaces, see [Enter].
func Open() (*Lab, error) {
	ns, err := newNamespace(switchSysctls)
	if errors.Is(err, unix.EROFS) { // /proc/sys, in many containers
		err = fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &Lab{namespace: ns, segments: map[string]*Segment{}}, nil
}

// lan is the segment that eth0 of every host is on.
const lan = "lan"

// The switch itself is silent, and netfilter does not see what it forwards.
var switchSysctls = []string{
	"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
	"net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0", "net.bridge.bridge-nf-call-arptables=0",
}

// What a new namespace inherits from the machine is set to the kernel's defaults;
// IPv6 addresses are usable at once.
var hostSysctls = []string{
	"net.ipv4.ip_forward=0",
	"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
	"net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.default.arp_ignore=0",
	"net.ipv4.conf.all.arp_announce=0", "net.ipv4.conf.default.arp_announce=0",
	"net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0",
	"net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
	"net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.router_solicitations=0",
}

// Segment returns the segment of that name and makes it if there is none. eth0 of every
// host is on "lan". A name has 1 to 15 bytes.
func (l *Lab) Segment(name string) (*Segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("lab: segment %s: %w", name, net.ErrClosed)
	}
	if s := l.segments[name]; s != nil {
		return s, nil
	}
	noSnooping := false
	// Spanning tree is off in a new bridge, and then there is no forward delay.
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &noSnooping}
	br.Name = name
	br.Flags = net.FlagUp
	if err := l.nl.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("lab: segment %s: %w", name, err)
	}
	s := &Segment{lab: l, bridge: br}
	l.segments[name] = s
	return s, nil
}

// Host makes a host whose interface eth0 is on the segment "lan" and has these
// addresses. Hardware addresses, and with them IPv6 link-local addresses, rise in
// the order in which interfaces are made. Once Host returns, the link is up and
// forwards and every address can be used.
func (l *Lab) Host(name string, addrs ...netip.Prefix) (*Host, error) {
	seg, err := l.Segment(lan)
	if err != nil {
		return nil, err
	}
	ns, err := newNamespace(hostSysctls)
	if err != nil {
		return nil, fmt.Errorf("lab: host %s: %w", name, err)
	}
	h := &Host{namespace: ns, lab: l, name: name, ports: map[string]*netlink.Veth{}}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	if err := h.Attach("eth0", seg, addrs...); err != nil {
		return nil, err
	}
	return h, nil
}

// MustHost is [Lab.Host] for a lab of [New]: addresses are written as 192.0.2.1/24, and an
// error fails the test.
func (l *Lab) MustHost(name string, addrs ...string) *Host {
	l.t.Helper()
	prefixes := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		prefixes[i] = netip.MustParsePrefix(a)
	}
	h, err := l.Host(name, prefixes...)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

// Close ends every program that runs in the lab, every capture, and then the
// hosts. Sockets that a caller opened in a host are the caller's to close. It may
// be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	hosts, commands, captures := l.hosts, l.commands, l.captures
	l.mu.Unlock()

	var errs []error
	if len(commands) > 0 {
		errs = append(errs, killInside(hosts...))
	}
	for _, c := range commands {
		c.Kill() // it may have left the host
		if l.t != nil && l.t.Failed() {
			l.t.Logf("output of %s:\n%s", c, tail(c.Output()))
		}
		c.closeOutput()
	}
	for _, c := range captures {
		errs = append(errs, c.Close())
		if n := c.Dropped(); n > 0 && l.t != nil {
			l.t.Logf("lab: a capture lost %d frames", n)
		}
	}
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(append(errs, l.close())...)
}

// tail returns the end of a long output.
func tail(s string) string {
	const limit = 64 << 10
	if len(s) <= limit {
		return s
	}
	return fmt.Sprintf("(%d bytes before)", len(s)-limit) + s[len(s)-limit:]
}
