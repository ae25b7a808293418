package healthcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/havip/havip/internal/field"
)

// ICMP is a [Checker] that sends an echo request, IPv4 or IPv6, and awaits the
// reply. It needs no privileges where the kernel allows ping sockets
// (net.ipv4.ping_group_range) and CAP_NET_RAW elsewhere; without either the
// error is [ErrCannotRun].
type ICMP struct {
	// Address is an IP address, with a zone if it is link-local
	// ("fe80::1%eth0"), or a host name. Required.
	Address string
}

// String names the check in errors and log lines.
func (c ICMP) String() string { return "icmp " + c.Address }

// WithDefaults returns c: no field has a default.
func (c ICMP) WithDefaults() ICMP { return c }

// Validate reports what is neither an address nor a name.
func (c ICMP) Validate() error {
	return field.If(!isHost(c.Address), "Address", "%q: want a host or an address", c.Address)
}

// Check sends one request and waits for its reply.
func (c ICMP) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

func (c ICMP) probe(ctx context.Context) error {
	addr, err := resolve(ctx, c.Address)
	if err != nil {
		return err
	}
	conn, to, err := listenICMP(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer bindDeadline(ctx, conn)()
	e := newEcho(addr)
	if _, err := conn.WriteTo(e.marshalRequest(), to); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if done, err := e.judgeMessage(buf[:n], addrOf(from)); done {
			return err
		}
	}
}

// resolve returns the first address of a host, or that of an [At].
func resolve(ctx context.Context, host string) (netip.Addr, error) {
	if at, ok := ctx.Value(atKey{}).(string); ok {
		host, _, _ = net.SplitHostPort(at)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0].Unmap(), nil
}

// listenICMP opens a ping socket, or else a raw one. to is addr in the form that the
// socket wants.
func listenICMP(addr netip.Addr) (conn net.PacketConn, to net.Addr, err error) {
	if conn, err = listenPing(addr); err == nil {
		return conn, &net.UDPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}, nil
	}
	network, any := "ip4:icmp", "0.0.0.0"
	if addr.Is6() {
		network, any = "ip6:ipv6-icmp", "::"
	}
	if conn, err = net.ListenPacket(network, any); err == nil {
		return conn, &net.IPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: neither net.ipv4.ping_group_range nor CAP_NET_RAW permit it", ErrCannotRun)
	}
	return nil, nil, err
}

func addrOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// echo is one request. It recognizes the replies.
type echo struct {
	to      netip.Addr // without zone
	id, seq uint16
	token   [16]byte // distinguishes the reply from those to other programs
}

func newEcho(to netip.Addr) echo {
	e := echo{to: to.WithZone(""), id: uint16(rand.Uint32()), seq: uint16(rand.Uint32())}
	binary.NativeEndian.PutUint64(e.token[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(e.token[8:], rand.Uint64())
	return e
}

func (e echo) marshalRequest() []byte {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(e.id), Seq: int(e.seq), Data: e.token[:]}}
	if e.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, err := m.Marshal(nil) // the kernel fills in ICMPv6's checksum
	if err != nil {
		panic(err) // such a message can always be marshalled
	}
	return b
}

// judgeMessage looks at a message that has arrived. done is false if the message has
// nothing to do with e: a raw socket receives those of all programs.
func (e echo) judgeMessage(b []byte, from netip.Addr) (done bool, err error) {
	var reply icmp.Type = ipv4.ICMPTypeEchoReply
	if e.to.Is6() {
		reply = ipv6.ICMPTypeEchoReply
	}
	m, err := icmp.ParseMessage(reply.Protocol(), b)
	if err != nil {
		return false, nil
	}
	switch body := m.Body.(type) {
	case *icmp.Echo:
		// A ping socket has an ID of its own. The token is what counts.
		return m.Type == reply && from == e.to && bytes.Equal(body.Data, e.token[:]), nil
	case *icmp.DstUnreach:
		if e.quotedIn(body.Data) {
			return true, fmt.Errorf("%v says: unreachable (code %d)", from, m.Code)
		}
	}
	return false, nil
}

// quotedIn reports whether an ICMP error quotes the request of e. The quote has the IP
// header and at least 8 bytes more.
func (e echo) quotedIn(quote []byte) bool {
	var header, typ int
	var dst []byte
	switch {
	case e.to.Is4() && len(quote) >= ipv4.HeaderLen && quote[0]>>4 == 4:
		header, typ, dst = int(quote[0]&0x0f)*4, int(ipv4.ICMPTypeEcho), quote[16:20]
	case e.to.Is6() && len(quote) >= ipv6.HeaderLen && quote[0]>>4 == 6:
		header, typ, dst = ipv6.HeaderLen, int(ipv6.ICMPTypeEchoRequest), quote[24:40]
	default:
		return false
	}
	return len(quote) >= header+8 && bytes.Equal(dst, e.to.AsSlice()) && int(quote[header]) == typ &&
		binary.BigEndian.Uint16(quote[header+4:]) == e.id && binary.BigEndian.Uint16(quote[header+6:]) == e.seq
}
