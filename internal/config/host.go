package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/havip/havip/healthcheck"
)

// Host is a machine that a configuration may be for.
type Host struct {
	// Interfaces has, by the name of each network interface, its addresses, without zones.
	Interfaces map[string][]netip.Addr
	// ReadFile reads a file as havip would.
	ReadFile func(path string) ([]byte, error)
	// Program says what is in the way of running a program.
	Program func(Program) error
	// FIFO says what is in the way of a FIFO, which is made if it is not there.
	FIFO func(path string) error
	// Folder says what is in the way of making files in a folder.
	Folder func(path string) error
	// Port says what is in the way of listening on a port, whoever may do so now.
	Port func(port uint16) error
	// Group says why nobody is in a group, by name or number: there is none. Nil: unknown.
	Group func(name string) error
}

// Program is one that a configuration has run, by a check or on a change of
// state.
type Program struct {
	Kind      string // whose: check, router or group
	Name      string // of that
	Key       string // the key that names the program, such as vrrp[0].notify[0]
	Path      string // of the program
	User      string // who it runs as; empty: who havip does
	Directory string // where it runs; empty: /
}

// Same reports whether both are one program of one check, router or group, wherever
// they are named.
func (p Program) Same(o Program) bool {
	p.Key, o.Key = "", ""
	return p == o
}

// Programs returns those of the configuration, in its order.
func (c *Config) Programs() []Program {
	var all []Program
	for _, check := range c.Checks {
		if e, ok := check.Checker.(*healthcheck.Exec); ok {
			all = append(all, Program{"check", check.Name, check.path + ".command", e.Path, e.User, e.Dir})
		}
	}
	notify := func(kind, name, key string, l Listeners) {
		for i, n := range l.Notify {
			all = append(all, Program{kind, name, fmt.Sprintf("%s.notify[%d]", key, i), n.Command[0], l.NotifyUser, ""})
		}
	}
	for i, r := range c.VRRP {
		notify("router", r.Name, fmt.Sprintf("vrrp[%d]", i), r.Listeners)
	}
	for i, g := range c.Groups {
		notify("group", g.Name, fmt.Sprintf("groups[%d]", i), g.Listeners)
	}
	return all
}

// OnHost returns what a machine lacks of what the configuration needs, in the order
// of the file. It changes nothing, and sees what is there at this moment: an interface
// may come later, and a program go.
func (c *Config) OnHost(h Host) []Problem {
	v := visit{Config: c, Host: h}
	for i := range c.VRRP {
		v.router(&c.VRRP[i], fmt.Sprintf("vrrp[%d]", i))
	}
	for _, check := range c.Checks {
		v.check(&check)
	}
	for i, g := range c.Groups {
		v.fifo(g.NotifyFIFO, fmt.Sprintf("groups[%d].notify_fifo", i))
	}
	for i := range c.Services {
		v.service(&c.Services[i], fmt.Sprintf("services[%d]", i))
	}
	v.admin()
	loops{c.Services, v.reaches}.report(v.find)
	for _, p := range c.Programs() {
		if err := h.Program(p); err != nil {
			v.find(p.Key, "%s: this machine cannot run it: %v", show(p.Path), err)
		}
	}
	return sorted(v.found)
}

// visit is a configuration on a machine.
type visit struct {
	*Config
	Host
	found []Problem
}

func (v *visit) find(path, format string, args ...any) {
	v.found = append(v.found, Problem{near(v.at, v.file, path), path, fmt.Sprintf(format, args...)})
}

// shortly is what is wrong with a file or a program, without the operation.
func shortly(err error) error {
	if system := (*fs.PathError)(nil); errors.As(err, &system) && system == err {
		return system.Err
	}
	return err
}

// iface reports an interface that is not there. What makes macvlans names them.
func (v *visit) iface(name, path string) {
	own := func(r Router) bool { return r.VirtualMAC && macvlanName(&r) == name }
	if _, ok := v.Interfaces[name]; name == "" || ok || slices.ContainsFunc(v.VRRP, own) {
		return
	}
	names := slices.Sorted(maps.Keys(v.Interfaces))
	has := "it has " + strings.Join(names[:min(len(names), 10)], ", ")
	v.find(path, "%s: no such interface on this machine: %s", show(name), hint(name, names, has))
}

// has reports whether an address is one of the machine itself. Virtual ones come and
// go.
func (v *visit) has(a netip.Addr) bool {
	all := slices.Concat(slices.Collect(maps.Values(v.Interfaces))...)
	return slices.Contains(all, a) && !v.virtual(a)
}

// virtual reports whether an address is a router's, and not the machine's own as an
// owner's are.
func (v *visit) virtual(a netip.Addr) bool {
	return slices.ContainsFunc(v.VRRP, func(r Router) bool {
		return r.Priority != OwnerPriority && r.Has(a)
	})
}

func (v *visit) router(r *Router, path string) {
	v.iface(r.Interface, path+".interface")
	for i, a := range r.Addresses {
		v.iface(a.Interface, fmt.Sprintf("%s.addresses[%d].interface", path, i))
	}
	for i, a := range r.Excluded {
		v.iface(a.Interface, fmt.Sprintf("%s.excluded[%d].interface", path, i))
	}
	for i, t := range r.Routes {
		v.iface(t.Interface, fmt.Sprintf("%s.routes[%d].interface", path, i))
	}
	v.fifo(r.NotifyFIFO, path+".notify_fifo")
	v.source(r, path)
	if len(r.Peers) > 0 && !slices.ContainsFunc(r.Peers, func(a netip.Addr) bool { return !v.has(a) }) {
		v.find(path+".peers", "only addresses of this machine: nobody hears it: add the other nodes, or leave peers out for multicast")
	}
}

// source reports a router that could not send from its interface.
func (v *visit) source(r *Router, path string) {
	addresses, ok := v.Interfaces[r.Interface]
	if !ok {
		return
	}
	if r.VRRP.Source.IsValid() {
		if !slices.Contains(addresses, r.VRRP.Source) {
			v.find(path+".source", "%s: not on %s of this machine: want one of its addresses, or leave it out", r.VRRP.Source, r.Interface)
		}
		return
	}
	// As package vrrp chooses: peers with global IPv6 addresses know the router by one.
	kind, linkLocal := family(routerFamily(r)), r.IPv6() && (len(r.Peers) == 0 || r.Peers[0].IsLinkLocalUnicast())
	if linkLocal {
		kind = "link-local IPv6"
	}
	suits := func(a netip.Addr) bool {
		return a.Is6() == r.IPv6() && !v.virtual(a) && (a.Is4() || a.IsLinkLocalUnicast() == linkLocal)
	}
	if !slices.ContainsFunc(addresses, suits) {
		v.find(path+".interface", "%s: has no %s address of its own on this machine to send from: give it one", r.Interface, kind)
	}
}

// check looks at a check where it is written.
func (v *visit) check(c *Check) {
	if c == nil {
		return
	}
	switch k := c.Checker.(type) {
	case *healthcheck.Interface:
		v.iface(k.Name, c.path+".interface")
	case *healthcheck.Gateway:
		v.iface(k.Interface, c.path+".interface")
	}
	if t, path := c.TLS, c.path+".tls"; t != nil {
		m := material{read: v.ReadFile, fail: v.find, cannot: "this machine cannot read it: "}
		m.authorities(t.CA, path+".ca")
		m.pair(t.Certificate, t.Key, path+".certificate", path+".key", path+".certificate")
	}
}

func (v *visit) fifo(file, path string) {
	if file == "" {
		return
	}
	if err := v.FIFO(file); err != nil {
		v.find(path, "%s: this machine cannot have it there: %v", show(file), shortly(err))
	}
}

func (v *visit) service(s *Service, path string) {
	v.listen(s.Listen, path+".listen")
	if file := s.AccessLog.File; file != "" {
		v.folder(filepath.Dir(file), path+".access_log.file", "lines are lost until it can be written to")
	}
	v.bufferFolder(s.HTTP.BufferFolder, path)
	v.check(s.Check)
	for i, r := range s.Routes {
		v.bufferFolder(r.HTTP.BufferFolder, fmt.Sprintf("%s.routes[%d]", path, i))
		if r.Check != s.Check {
			v.check(r.Check)
		}
	}
}

// folder looks at a folder for files. loss is what happens without it.
func (v *visit) folder(dir, path, loss string) {
	if err := v.Folder(dir); err != nil {
		v.find(path, "%v: %s", shortly(err), loss)
	}
}

func (v *visit) bufferFolder(dir, path string) {
	if dir != "" {
		v.folder(dir, path+".http.buffer_folder", "bodies of requests are streamed until it can be written to")
	}
}

// listen looks at what a service, or the admin server, listens on.
func (v *visit) listen(l netip.AddrPort, path string) {
	a := l.Addr().WithZone("")
	moves := slices.ContainsFunc(v.VRRP, func(r Router) bool { return r.Has(a) })
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsLoopback(), moves, v.has(a):
	default:
		v.find(path, "%s: neither an address of this machine nor a virtual one of this file", a)
	}
	if err := v.Port(l.Port()); err != nil {
		v.find(path, "%v", err)
	}
}

// reaches is that of Config, with what the machine's own addresses lead to.
func (v *visit) reaches(s *Service, host netip.Addr) bool {
	return v.Config.reaches(s, host) || everywhere(s, host) && v.has(host)
}
