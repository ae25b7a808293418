package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
)

// address is one host's address, without a zone: the interface is given
// elsewhere.
func address(to *netip.Addr) value {
	return scalar(to, "an IP address", func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		return a, cmp.Or(fits(err == nil), hostAddress(a))
	})
}

func hostAddress(a netip.Addr) error {
	if err := plainAddress(a); err != nil {
		return err
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == broadcast || thisNetwork.Contains(a) {
		return errors.New("want the address of a host on the network")
	}
	return nil
}

// plainAddress reports a zone, and an IPv4 address in IPv6 form.
func plainAddress(a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return fmt.Errorf("leave out %%%s", a.Zone())
	case a.Is4In6():
		return fmt.Errorf("write it as %s", a.Unmap())
	}
	return nil
}

// prefix is an address with the length of its network: all of it when none is
// given.
func prefix(to *netip.Prefix) value {
	const want = "an address such as 192.168.31.250/24 or 192.168.31.250"
	return scalar(to, want, func(s string) (netip.Prefix, error) {
		a, err := netip.ParseAddr(s)
		p := netip.PrefixFrom(a.WithZone(""), a.BitLen())
		if err != nil {
			p, err = netip.ParsePrefix(s)
			a = p.Addr()
		}
		if err = cmp.Or(fits(err == nil), hostAddress(a)); err != nil {
			return p, err
		}
		switch {
		case a.Is4() && p.Bits() < 31 && (p == p.Masked() || a == lastAddress(p)):
			err = fmt.Errorf("the first and the last address of %s cannot be a host's", p.Masked())
		case p.Bits() == 0:
			err = fmt.Errorf("/0 is every network: want %s", want)
		}
		return p, err
	})
}

// network is a destination with its length.
func network(to *netip.Prefix) value { return scalar(to, aNetwork, parseNetwork) }

const aNetwork = "a network such as 10.0.0.0/8"

func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil, p.Addr().Is4In6():
		return p, errors.New("want " + aNetwork)
	case p != p.Masked():
		return p, fmt.Errorf("want the network: %s", p.Masked())
	}
	return p, nil
}

// lastAddress is the broadcast address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := range a {
		a[i] |= byte(0xff >> min(8, max(0, p.Bits()-8*i)))
	}
	return netip.AddrFrom4(a)
}

// trusted is the address of a host, or a network of hosts.
func trusted(to *netip.Prefix) value {
	return scalar(to, "an address or a network such as 192.168.31.0/24", func(s string) (netip.Prefix, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return parseNetwork(s)
		}
		return netip.PrefixFrom(a, a.BitLen()), plainAddress(a)
	})
}

// listenAddress is "address:port", or ":port" for an address that is not valid.
func listenAddress(to *netip.AddrPort) value {
	const want = `":8080" or an address and port such as 192.168.31.250:8080`
	return scalar(to, want, func(s string) (netip.AddrPort, error) {
		host, port, err := net.SplitHostPort(s)
		n, portErr := strconv.ParseUint(port, 10, 16)
		a, hostErr := netip.ParseAddr(host)
		fit := err == nil && portErr == nil && n > 0 && (host == "" || hostErr == nil)
		return netip.AddrPortFrom(a, uint16(n)), cmp.Or(fits(fit), listenable(a))
	})
}

// listenable reports an address that no machine can listen on; one that is not valid
// stands for all.
func listenable(a netip.Addr) error {
	linkLocal := a.Is6() && !a.Is4In6() && a.IsLinkLocalUnicast()
	switch {
	case a.IsMulticast():
		return errors.New("a group, not the address of a host: want one of its own, or none for all")
	case a == broadcast, thisNetwork.Contains(a) && !a.IsUnspecified():
		return errors.New("no host has it: want one of its own, or none for all")
	case linkLocal && a.Zone() == "":
		return fmt.Errorf("each interface has such addresses: say which, as in [%s%%eth0]", a)
	case linkLocal:
		return nil
	}
	return plainAddress(a)
}

var (
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122 §3.2.1.3
)

// hostPort is where to connect to, "host:port", as a check would, or the name of SRV
// records, of which package lb knows more.
func hostPort(to *string) value {
	return scalar(to, "a host and port such as 192.168.31.242:8080", func(s string) (string, error) {
		path, isPath := strings.CutPrefix(s, "unix:")
		switch {
		case isPath && (!filepath.IsAbs(path) || len(path) > maxSocketPath):
			return s, fmt.Errorf("want unix: and an absolute path of up to %d bytes, such as unix:/run/app.sock", maxSocketPath)
		case isPath:
			return s, nil
		case (healthcheck.TCP{Address: s}).Validate() == nil, isHost(s) && (lb.Backend{Address: s}).Validate() == nil:
			return s, nil
		case strings.HasPrefix(s, "_"):
			return s, errors.New("want a host and port, or the name of SRV records such as _http._tcp.example.org")
		}
		return s, errUnfit
	})
}

func isHost(s string) bool { return healthcheck.ICMP{Address: s}.Validate() == nil }

// host is an address or a name.
func host(to *string) value { return text(to, "a host or an address", isHost) }

// serverName is one that clients ask for by SNI, in lower case.
func serverName(to *string) value {
	return scalar(to, "a name such as www.example.org or *.example.org", func(s string) (string, error) {
		name := strings.TrimPrefix(s, "*.")
		_, err := netip.ParseAddr(name)
		return strings.ToLower(strings.TrimSuffix(s, ".")), fits(err != nil && len(s) <= 253 && isHost(name))
	})
}
