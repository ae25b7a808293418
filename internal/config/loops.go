package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
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
	round, said := inRounds(leads), 0
	for from, own := range leads {
		for _, b := range own {
			if !round[from] || !round[b.to] || said > maxProblems {
				continue
			}
			way, back := l.way(leads, b.to, from)
			if back {
				said++
			}
			switch {
			case !back:
			case len(way) == 0:
				fail(b.path, "%s: this service itself: want another server", b.address)
			default:
				fail(b.path, "%s: leads back to this service, by way of %s: want another server", b.address, several(way))
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

// inRounds leaves out services that no round goes through, which are most: those
// that lead to none, and those that none leads to, over and over.
func inRounds(leads [][]lead) []bool {
	in, out, round := make([]int, len(leads)), make([]int, len(leads)), make([]bool, len(leads))
	before := make([][]int, len(leads))
	for i, own := range leads {
		round[i], out[i] = true, len(own)
		for _, b := range own {
			in[b.to]++
			before[b.to] = append(before[b.to], i)
		}
	}
	var ends []int
	end := func(i int) {
		if round[i] && (in[i] == 0 || out[i] == 0) {
			round[i] = false
			ends = append(ends, i)
		}
	}
	for i := range leads {
		end(i)
	}
	for len(ends) > 0 {
		i := ends[0]
		ends = ends[1:]
		for _, b := range leads[i] {
			in[b.to]--
			end(b.to)
		}
		for _, from := range before[i] {
			out[from]--
			end(from)
		}
	}
	return round
}

// way is how to get from a service to another: the names of those on the way.
func (l loops) way(leads [][]lead, from, to int) (names []string, ok bool) {
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
			return names, true
		}
		for _, b := range leads[i] {
			if _, seen := before[b.to]; !seen {
				before[b.to] = i
				queue = append(queue, b.to)
			}
		}
	}
	return nil, false
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
	here := func(r Router) bool { return r.VRRP.Source == host || holds(&r, host) }
	return everywhere(s, host) && (host.IsLoopback() || slices.ContainsFunc(c.VRRP, here))
}

// holds reports whether an address moves with a router.
func holds(r *Router, a netip.Addr) bool {
	same := func(v vip.Address) bool { return v.Prefix.Addr() == a }
	return slices.ContainsFunc(r.Addresses, same) || slices.ContainsFunc(r.Excluded, same)
}
