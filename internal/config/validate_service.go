package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb"
)

// validateService checks the keys of a service against one another.
func (d *decoder) validateService(s *Service, path string) {
	keys := s.keys()
	d.validateModes(keys, path, s.Mode)
	if s.Pool.Balance == lb.KeyHash && s.Mode != "http" && s.Mode != "" {
		d.fail(path+".balance", "key-hash: the key is the path of a request, which mode %s does not know: want source-hash or maglev", s.Mode)
	}
	for i, r := range s.Routes {
		if r.Pool.Balance == lb.KeyHash && s.Mode == "tcp" {
			d.fail(fmt.Sprintf("%s.routes[%d].balance", path, i), "key-hash: the key is the path of a request, which mode tcp does not know: want source-hash or maglev")
		}
	}
	d.validateBackends(s.Pool.Backends, path)
	d.validateAnswered(s, path)
	d.validateServiceCheck(s, &s.Check, path)
	d.validateRoutes(s, path)
	d.validatePool(s, path, keys)
	d.validateSockets(s, path)
	d.validateTLS(s, path)
	d.validateRuleFiles(s, path)
	d.validateAccessLog(s, path+".access_log")
	switch s.Mode {
	case "http":
		d.warnRules(s, path)
		d.report(s.withRoutes().Validate(), path, keys)
		fallthrough // what both modes have is mode tcp's
	case "tcp":
		d.report(s.TCP.Validate(), path, keys)
	case "udp":
		d.report(s.UDP.Validate(), path, keys)
	}
	d.report(s.Limits.Validate(), path, keys)
}

// validateAccessLog checks what is said of the file of an access log, and gives it its format.
func (d *decoder) validateAccessLog(s *Service, path string) {
	a := &s.AccessLog
	switch {
	case a.File == "":
		for _, key := range []string{"format", "sample"} {
			if d.given(path + "." + key) {
				d.warn(path+"."+key, "does nothing without file")
			}
		}
	case s.Mode == "http" || s.Mode == "":
	case d.given(path+".format") && a.Format == lb.AccessCombined:
		d.fail(path+".format", "combined: is about requests, which mode %s has none of: want json", s.Mode)
	default:
		a.Format = lb.AccessJSON
	}
}

// validateModes reports the keys that are given and that the service's mode does
// not use.
func (d *decoder) validateModes(keys []key, path, mode string) {
	for _, k := range keys {
		sub := join(path, k.name)
		switch {
		case !d.given(sub), mode == "":
		case k.modes != nil && !slices.Contains(k.modes, mode):
			d.fail(sub, "mode %s does not use this: leave it out, or set mode: %s", mode, words.Choice(k.modes))
		case k.value.shape == single:
			d.validateModes(k.value.keys, sub, mode)
		}
	}
}

// validateBackends checks what the file wants of the backends of a service or route,
// and gives them their defaults.
func (d *decoder) validateBackends(backends []lb.Backend, path string) {
	addresses := make(map[string]string)
	for i, b := range backends {
		address := b.Address
		if !isSocket(b) {
			address = strings.ToLower(address)
		}
		d.unique(addresses, address, fmt.Sprintf("%s.backends[%d]", path, i))
		backends[i] = b.WithDefaults()
		if at := fmt.Sprintf("%s.backends[%d].resolve", path, i); d.given(at) && (isAddrPort(b.Address) || isSocket(b)) {
			d.warn(at, "%s: does nothing: the address is no name", b.Resolve)
		}
	}
	none := func(is func(b lb.Backend) bool) bool { return !slices.ContainsFunc(backends, is) }
	if len(backends) == 0 || !none(func(b lb.Backend) bool { return b.Address == "" }) {
		return
	}
	if none(func(b lb.Backend) bool { return !b.Backup }) {
		d.fail(path+".backends", "all are backups: want one that is not")
	}
	if none(func(b lb.Backend) bool { return !b.Drain }) {
		d.warn(path+".backends", "all drain: new connections are refused")
	}
}

func isAddrPort(s string) bool {
	_, err := netip.ParseAddrPort(s)
	return err == nil
}

// withRoutes is the configuration of mode http with its routes, whose pools have nothing in
// them: those come later.
func (s *Service) withRoutes() lb.HTTPConfig {
	none, _ := lb.NewPool(lb.PoolConfig{}) // is valid
	h := s.HTTP
	h.Routes = s.HTTPRoutes(func(string) *lb.Pool { return none })
	if len(s.Pool.Backends) > 0 {
		h.Pool = none
	}
	return withoutFiles(h)
}

// validateServiceCheck checks a check that is written in a service or its route, and puts
// a copy of the named check in the place of a name. Its connections begin as those of the
// service do.
func (d *decoder) validateServiceCheck(s *Service, check **Check, path string) {
	c := *check
	switch path += ".check"; {
	case c == nil:
		return
	case c.Name == "":
		d.validateCheck(c)
	default:
		named := d.reference(c.Name, path)
		if named == nil {
			return
		}
		copied := *named
		c, *check = &copied, &copied
		if target := d.target(c); c.Type != "" && target == "" {
			d.fail(path, "%s: type %s cannot probe backends: want another type", c.Name, c.Type)
		} else if target != "" && d.given(target) {
			d.fail(target, "%s probes backends by this check, each at its own address: leave it out, or use another check", own(strings.TrimSuffix(path, ".check")))
		}
	}
	if !d.given(c.path + ".start_spread") { // or all backends are probed at the same time
		c.StartSpread = min(c.Interval, maxDefaultSpread)
	}
	switch c.Checker.(type) {
	case *healthcheck.ICMP, *healthcheck.UDP:
	default:
		c.SendProxy = s.TCP.SendProxy
	}
}

// validateServices checks each service, and services against one another.
func (d *decoder) validateServices(c *Config) {
	names, earlier := make(map[string]string), make(map[socket][]int)
	for i := range c.Services {
		s, path := &c.Services[i], fmt.Sprintf("services[%d]", i)
		d.validateService(s, path)
		d.unique(names, s.Name, path+".name")
		d.validateListen(c, s, path+".listen")
		at := s.socket()
		rival := slices.IndexFunc(earlier[at], func(i int) bool { return s.rivals(&c.Services[i]) })
		switch {
		case at.port == 0:
		case rival >= 0:
			d.fail(path+".listen", "in use by services[%d]: each needs its own", earlier[at][rival])
		default:
			earlier[at] = append(earlier[at], i)
		}
	}
	d.warnLogs(c.Services)
	loops{c.Services, c.reaches}.report(d.fail)
}

// rivals reports whether the kernel would refuse one of two listeners beside the other: a
// wildcard takes its port on every address of its family, and the IPv6 one on those of
// IPv4 too.
func (s *Service) rivals(o *Service) bool {
	a, b := s.Listen.Addr(), o.Listen.Addr()
	return a == b || everywhere(s, b) || everywhere(o, a)
}

// validateListen reports an address that no machine has.
func (d *decoder) validateListen(c *Config, s *Service, path string) {
	a := s.Listen.Addr()
	for _, r := range c.VRRP {
		if r.Has(a) {
			return
		}
		for _, v := range r.Addresses {
			if n := v.Prefix.Masked(); n.Addr().Is4() && n.Bits() < 31 && n.Contains(a) && (a == n.Addr() || a == lastAddress(n)) {
				d.fail(path, "%s: the first and the last address of %s cannot be a host's", a, n)
				return
			}
		}
	}
	if reserved.Contains(a) {
		d.fail(path, "%s: reserved, no host has it: want one of its own, or none for all", a)
	}
}

// reserved is class E (RFC 1112 §4). Linux takes such an address nevertheless, so a
// virtual one may be there.
var reserved = netip.MustParsePrefix("240.0.0.0/4")
