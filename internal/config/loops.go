package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/havip/havip/lb"
)

// loops finds backends that lead back to their own service, by itself or by way of
// others: whatever is sent to them goes round until something breaks.
type loops struct {
	services []Service
	// reach reports whether a service listens where an address leads to.
	reach func(s *Service, host netip.Addr) bool
}

// lead is a backend that is a service of the file.
type lead struct {
	path, address string
	to            int // its index
}

// report calls fail for each such backend, up to as many as are told of one file.
func (l loops) report(fail func(path, format string, args ...any)) {
	leads, into := l.leads()
	ring := rings(into)
	said := 0
	for from, own := range leads {
		var next []int // on the way here
		for _, b := range own {
			if ring[b.to] != ring[from] || said > maxProblems {
				continue
			}
			said++
			if next == nil {
				next = ways(into, from)
			}
			var way []string
			for i := b.to; i != from; i = next[i] {
				way = append(way, l.services[i].Name)
			}
			if len(way) > 0 {
				fail(b.path, "%s: leads back to this service, by way of %s: want another server", b.address, several(way))
			} else {
				fail(b.path, "%s: this service itself: want another server", b.address)
			}
		}
	}
}

// rings numbers the services so that those have the same number that lead to one another,
// by way of others or not: the strongly connected components, by Tarjan's algorithm. One
// walk finds them all, which matters in a file of thousands of services.
func rings(into [][]int) (ring []int) {
	ring = make([]int, len(into)) // its number; until that is known 0
	met := make([]int, len(into)) // in which order the walk comes here, from 1
	var open []int
	steps, found := 0, 0
	var walk func(i int) (first int)
	walk = func(i int) (first int) {
		steps++
		met[i], first = steps, steps
		open = append(open, i)
		for _, j := range into[i] {
			switch {
			case met[j] == 0:
				first = min(first, walk(j))
			case ring[j] == 0:
				first = min(first, met[j])
			}
		}
		if first == met[i] {
			found++
			for ring[i] == 0 {
				last := len(open) - 1
				ring[open[last]] = found
				open = open[:last]
			}
		}
		return first
	}
	for i := range into {
		if met[i] == 0 {
			walk(i)
		}
	}
	return ring
}

// ways returns, for each service that leads to another in the end, the next service on
// the shortest way there, and -1 for the rest. into has, for each service, those that
// lead there.
func ways(into [][]int, to int) (next []int) {
	next = slices.Repeat([]int{-1}, len(into))
	next[to] = to
	for queue := []int{to}; len(queue) > 0; queue = queue[1:] {
		for _, from := range into[queue[0]] {
			if next[from] < 0 {
				next[from] = queue[0]
				queue = append(queue, from)
			}
		}
	}
	return next
}

// several names the services on a way, unless they are many.
func several(names []string) string {
	const most = 10
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// leads returns, for each service, which backends are services, and which services lead
// there.
func (l loops) leads() (all [][]lead, into [][]int) {
	listeners := make(map[place][]int)
	for i := range l.services {
		at := place{l.services[i].socket(), l.services[i].Listen.Addr()}
		if at.host.IsUnspecified() {
			at.host = netip.Addr{}
		}
		listeners[at] = append(listeners[at], i)
	}
	all, into = make([][]lead, len(l.services)), make([][]int, len(l.services))
	for i, s := range l.services {
		add := func(backends []lb.Backend, path string) {
			for j, b := range backends {
				if to := l.at(listeners, s.Network(), literal(b.Address)); to >= 0 {
					all[i] = append(all[i], lead{fmt.Sprintf("%s.backends[%d]", path, j), b.Address, to})
					into[to] = append(into[to], i)
				}
			}
		}
		path := fmt.Sprintf("services[%d]", i)
		add(s.Pool.Backends, path)
		for k, r := range s.Routes {
			add(r.Backends, fmt.Sprintf("%s.routes[%d]", path, k))
		}
	}
	return all, into
}

// at returns the first service to which an address leads; -1: none. Of thousands of services
// on a port, with addresses of their own, only that with the address is looked at.
func (l loops) at(listeners map[place][]int, network string, a netip.AddrPort) (first int) {
	first = -1
	if !a.IsValid() {
		return first
	}
	for _, host := range []netip.Addr{a.Addr(), {}} {
		for _, to := range listeners[place{socket{network, a.Port()}, host}] {
			if (first < 0 || to < first) && l.reach(&l.services[to], a.Addr()) {
				first = to
			}
		}
	}
	return first
}

// place is what a service listens on; without a host: on all addresses.
type place struct {
	socket
	host netip.Addr
}

// socket is what services listen on, but for the address.
type socket struct {
	network string
	port    uint16
}

func (s *Service) socket() socket { return socket{s.Network(), s.Listen.Port()} }

// literal is what an address says without a look-up of names.
func literal(address string) netip.AddrPort {
	host, port, _ := net.SplitHostPort(address)
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		address = "127.0.0.1:" + port
	}
	a, _ := netip.ParseAddrPort(address)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
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
	here := func(r Router) bool { return r.VRRP.Source == host || r.Has(host) }
	return everywhere(s, host) && (host.IsLoopback() || slices.ContainsFunc(c.VRRP, here))
}
