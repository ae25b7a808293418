package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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
	leads := l.leads()
	circle, said := circles(leads), 0
	for from, own := range leads {
		for _, b := range own {
			if circle[from] != circle[b.to] || said > maxProblems {
				continue
			}
			said++
			if way := l.way(leads, b.to, from); len(way) > 0 {
				fail(b.path, "%s: leads back to this service, by way of %s: want another server", b.address, several(way))
			} else {
				fail(b.path, "%s: this service itself: want another server", b.address)
			}
		}
	}
}

// several names the services on a way, unless they are many.
func several(names []string) string {
	const most = 10
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// leads returns, for each service, which backends are services.
func (l loops) leads() [][]lead {
	type socket struct {
		network string
		port    uint16
	}
	listeners := make(map[socket][]int)
	for i, s := range l.services {
		at := socket{s.Network(), s.Listen.Port()}
		listeners[at] = append(listeners[at], i)
	}
	all := make([][]lead, len(l.services))
	for i, s := range l.services {
		add := func(backends []lb.Backend, path string) {
			for j, b := range backends {
				ip, port, ok := literal(b.Address)
				for _, to := range listeners[socket{s.Network(), port}] {
					if ok && l.reach(&l.services[to], ip) {
						all[i] = append(all[i], lead{fmt.Sprintf("%s.backends[%d]", path, j), b.Address, to})
						break
					}
				}
			}
		}
		path := fmt.Sprintf("services[%d]", i)
		add(s.Pool.Backends, path)
		for k, r := range s.Routes {
			add(r.Backends, fmt.Sprintf("%s.routes[%d]", path, k))
		}
	}
	return all
}

// literal is what an address says without a look-up of names.
func literal(address string) (ip netip.Addr, port uint16, ok bool) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return ip, 0, false
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		host = "127.0.0.1"
	}
	ip, err = netip.ParseAddr(host)
	n, portErr := strconv.ParseUint(service, 10, 16)
	return ip.Unmap(), uint16(n), err == nil && portErr == nil
}

// circles numbers the services: two have the same number if each leads to the other
// in the end (strongly connected components, by Tarjan).
func circles(leads [][]lead) (circle []int) {
	circle = make([]int, len(leads)) // 0: not known yet
	// earliest is the first, in the order of visits, that a service leads back to.
	visit, earliest := make([]int, len(leads)), make([]int, len(leads))
	visits := 0
	var open []int // the services whose circle is not known yet, in the order of visits
	var look func(i int)
	look = func(i int) {
		visits++
		visit[i], earliest[i] = visits, visits
		first := len(open)
		open = append(open, i)
		for _, b := range leads[i] {
			if visit[b.to] == 0 {
				look(b.to)
			}
			if circle[b.to] == 0 {
				earliest[i] = min(earliest[i], earliest[b.to])
			}
		}
		if earliest[i] < visit[i] {
			return
		}
		for _, member := range open[first:] {
			circle[member] = visit[i]
		}
		open = open[:first]
	}
	for i := range leads {
		if visit[i] == 0 {
			look(i)
		}
	}
	return circle
}

// way is how to get from a service to another of its circle: the names of those on
// the way.
func (l loops) way(leads [][]lead, from, to int) (names []string) {
	// Each service with the one before it, the nearest first.
	before, queue := map[int]int{from: -1}, []int{from}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		if i == to {
			for i = before[i]; i >= 0; i = before[i] {
				names = append(names, l.services[i].Name)
			}
			slices.Reverse(names)
			return names
		}
		for _, b := range leads[i] {
			if _, seen := before[b.to]; !seen {
				before[b.to] = i
				queue = append(queue, b.to)
			}
		}
	}
	return nil
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
