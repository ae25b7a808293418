package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// loops finds backends that lead back to their own service, by itself or by way of
// others: whatever is sent to them goes round until something breaks.
type loops struct {
	services []Service
	// reach reports whether a service listens where an address leads to.
	reach func(s *Service, host netip.Addr) bool
}

// report calls fail for each such backend.
func (l loops) report(fail func(path, format string, args ...any)) {
	for i := range l.services {
		for _, b := range l.backends(i) {
			to := l.target(i, b.address)
			if to < 0 {
				continue
			}
			way, back := l.way(to, i, make(map[int]bool))
			switch {
			case !back:
			case len(way) == 0:
				fail(b.path, "%s: this service itself: want another server", b.address)
			default:
				fail(b.path, "%s: leads back to this service, by way of %s: want another server", b.address, strings.Join(way, ", "))
			}
		}
	}
}

// hop is a backend with the path of its address.
type hop struct{ path, address string }

func (l loops) backends(i int) (all []hop) {
	s, path := &l.services[i], fmt.Sprintf("services[%d]", i)
	add := func(backends []Backend, path string) {
		for j, b := range backends {
			all = append(all, hop{fmt.Sprintf("%s.backends[%d]", path, j), b.Address})
		}
	}
	add(s.Backends, path)
	for k, r := range s.Routes {
		add(r.Backends, fmt.Sprintf("%s.routes[%d]", path, k))
	}
	return all
}

// way is how to get from a service to another: the names of those on the way.
func (l loops) way(from, to int, seen map[int]bool) (names []string, ok bool) {
	if from == to {
		return nil, true
	}
	seen[from] = true
	for _, b := range l.backends(from) {
		next := l.target(from, b.address)
		if next < 0 || seen[next] {
			continue
		}
		if rest, ok := l.way(next, to, seen); ok {
			return append([]string{l.services[from].Name}, rest...), true
		}
	}
	return nil, false
}

// target is the index of the service that a backend of another, or of the same, is;
// -1 for none.
func (l loops) target(from int, address string) int {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return -1
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		return -1
	}
	return slices.IndexFunc(l.services, func(s Service) bool {
		return s.Network() == l.services[from].Network() && s.Listen.Port() == uint16(n) && l.reach(&s, ip.Unmap())
	})
}

// everywhere reports whether a service listens on all addresses of the family of one.
func everywhere(s *Service, host netip.Addr) bool {
	a := s.Listen.Addr()
	return !a.IsValid() || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && host.Is4()
}

// reaches reports whether an address leads to a service on every machine.
func (c *Config) reaches(s *Service, host netip.Addr) bool {
	if s.Listen.Addr() == host {
		return true
	}
	here := func(r Router) bool { return r.Source == host || holds(&r, host) }
	return everywhere(s, host) && (host.IsLoopback() || slices.ContainsFunc(c.VRRP, here))
}

// holds reports whether an address moves with a router.
func holds(r *Router, a netip.Addr) bool {
	same := func(v Address) bool { return v.Addr() == a }
	return slices.ContainsFunc(r.Addresses, same) || slices.ContainsFunc(r.Excluded, same)
}
