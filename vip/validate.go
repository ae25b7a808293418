package vip

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

const (
	// maxName is IFNAMSIZ less the terminating zero.
	maxName = 15
	// maxLease is how long a host that is frozen may keep addresses at most.
	maxLease = time.Hour
	// maxProbe is far more than a link needs to answer.
	maxProbe = 5 * time.Second
)

// WithDefaults returns c with its zero fields filled in. It changes nothing that c
// refers to.
func (c Config) WithDefaults() Config {
	c.Name = cmp.Or(c.Name, c.Interface)
	if len(c.VirtualMAC) == 6 {
		c.MacvlanName = cmp.Or(c.MacvlanName, macvlanName(c.VirtualMAC))
	}
	c.Addresses = slices.Clone(c.Addresses)
	for i := range c.Addresses {
		a := &c.Addresses[i]
		a.Interface = cmp.Or(a.Interface, c.carrier())
	}
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		c.Routes[i] = c.Routes[i].WithDefaults()
		c.Routes[i].Interface = cmp.Or(c.Routes[i].Interface, c.Interface)
	}
	c.Lease = cmp.Or(c.Lease, LeaseFor(time.Second, 3))
	c.Announce = c.Announce.withDefaults()
	return c
}

// Validate reports everything that is wrong with c, whatever the machine: each
// error that is joined in the result is a [FieldError].
func (c Config) Validate() error {
	given := c // a default Interface is judged as the Config's only
	c = c.WithDefaults()
	t, mac := c.lifetime(), c.VirtualMAC
	needed := mac != nil ||
		slices.ContainsFunc(c.Addresses, func(a Address) bool { return a.Interface == "" }) ||
		slices.ContainsFunc(c.Routes, func(r Route) bool { return r.Interface == "" })
	errs := []error{
		validateDevice("Interface", c.Interface, needed),
		field.If(mac != nil && (len(mac) != 6 || mac[0]&1 != 0), "VirtualMAC", "%v: want six bytes, not a group's", mac),
		validateDevice("MacvlanName", c.MacvlanName, len(mac) == 6),
		field.If(mac == nil && c.MacvlanName != "", "MacvlanName", "%q: want none without VirtualMAC", c.MacvlanName),
		field.If(len(mac) == 6 && c.MacvlanName == c.Interface, "MacvlanName", "%q: is Interface itself: want another name", c.MacvlanName),
		field.If(c.Owner && c.NoAccept, "NoAccept", "true: want false for the owner of the addresses, who would be cut off from himself"),
		field.If(c.Owner && c.Takeover, "Takeover", "true: want false for the owner of the addresses, which look like a killed Keepalived's"),
		field.If(t%time.Second != 0 || t > maxLease, "Lease", "%s: want whole seconds, up to %s", field.Span(t), field.Span(maxLease)),
		field.Between("Probe", c.Probe, 0, maxProbe),
	}
	for i, a := range given.Addresses {
		name := fmt.Sprintf("Addresses[%d]", i)
		errs = append(errs, field.In(name, a.Validate()))
		if j := slices.IndexFunc(c.Addresses[:i], a.twin); j >= 0 && a.Prefix.IsValid() {
			errs = append(errs, field.Errorf(name+".Prefix", "%v: given twice: it is that of Addresses[%d]: want each once", a.Prefix.Addr(), j))
		}
	}
	for i, r := range given.Routes {
		errs = append(errs, field.In(fmt.Sprintf("Routes[%d]", i), r.Validate()))
	}
	return errors.Join(append(errs, field.In("Announce", c.Announce.validate()))...)
}

// validateDevice checks the name of an interface as the kernel does (dev_valid_name).
func validateDevice(name, device string, required bool) error {
	if device == "" {
		return field.If(required, name, "no interface: want the name of one, such as eth0")
	}
	bad := len(device) > maxName || device == "." || device == ".." || strings.ContainsAny(device, "/: \t\n\v\f\r\x00")
	return field.If(bad, name, "%q: want the name of a network interface, up to %d characters", device, maxName)
}

// WithDefaults returns a: its Interface has a default in a [Config] only.
func (a Address) WithDefaults() Address { return a }

// Validate reports everything that is wrong with a, as [Config.Validate] does.
func (a Address) Validate() error {
	addr := a.Prefix.Addr()
	is4 := addr.Is4() || !addr.IsValid()
	badLabel := len(a.Label) > maxName || strings.ContainsAny(a.Label, "/ \t\n\v\f\r\x00")
	known := words.Has(scopeWords, a.Scope)
	return errors.Join(
		field.If(!a.Prefix.IsValid(), "Prefix", "not an address: want ADDRESS/LENGTH"),
		field.If(addr.Is4In6(), "Prefix", "%v: an IPv4 address in IPv6 form: want it as IPv4", a.Prefix),
		field.If(!addr.Is4In6() && (addr.IsUnspecified() || addr.IsMulticast()), "Prefix", "%v: want a unicast address", a.Prefix),
		validateDevice("Interface", a.Interface, false),
		field.If(!is4 && a.Label != "", "Label", "%q: want none: only an IPv4 address has one", a.Label),
		field.If(is4 && badLabel, "Label", "%q: want a label of up to %d characters, such as eth0:vip", a.Label, maxName),
		field.If(!known, "Scope", "%d: want %s", uint8(a.Scope), words.Choice(scopeWords)),
		field.If(known && a.Scope != ScopeGlobal && is6(a.Prefix), "Scope", "%v: want none: an IPv6 address has its own", a.Scope))
}

// WithDefaults returns r with its zero fields filled in, but for the Interface, which
// has a default in a [Config] only.
func (r Route) WithDefaults() Route {
	r.Table = cmp.Or(r.Table, mainTable)
	return r
}

// Validate reports everything that is wrong with r, as [Config.Validate] does.
func (r Route) Validate() error {
	to := r.Destination
	return errors.Join(
		field.If(!to.IsValid(), "Destination", "no destination: want NETWORK/LENGTH"),
		field.If(to.IsValid() && to != to.Masked(), "Destination", "%v: bits beyond the length: want %v", to, to.Masked()),
		field.If(to.Addr().Is4In6() && to == to.Masked(), "Destination", "%v: an IPv4 network in IPv6 form: want it as IPv4", to),
		r.validateHost("Gateway", r.Gateway),
		r.validateHost("Source", r.Source),
		validateDevice("Interface", r.Interface, false))
}

// validateHost checks the address of a host that the route names.
func (r Route) validateHost(name string, a netip.Addr) error {
	switch to := r.Destination; {
	case !a.IsValid():
	case a.IsUnspecified(), a.IsMulticast(), a.Is4In6():
		return field.Errorf(name, "%v: want the address of one host", a)
	case to.IsValid() && a.Is4() != to.Addr().Is4():
		return field.Errorf(name, "%v: of another family: want one as in %v", a, to)
	}
	return nil
}

// lifetime is that of the addresses in the kernel; 0: none.
func (c Config) lifetime() time.Duration { return max(0, c.Lease) }

// entitled reports whether the addresses are this host's in spite of a lapsed lease.
func (c Config) entitled() bool { return c.Entitled != nil && c.Entitled() }

// addrs returns the addresses without their networks.
func (c Config) addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(c.Addresses))
	for i, a := range c.Addresses {
		addrs[i] = a.Prefix.Addr()
	}
	return addrs
}

// interfaces returns the names of all interfaces of c and of others, each once.
func (c Config) interfaces(others belongings) []string {
	var names []string
	for _, a := range slices.Concat(c.Addresses, others.addresses) {
		names = append(names, a.Interface)
	}
	for _, r := range slices.Concat(c.Routes, others.routes) {
		names = append(names, r.Interface)
	}
	if c.VirtualMAC != nil {
		names = append(names, c.Interface)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Fixed returns the names of the fields by which next differs from c in a way
// that no [Manager] can follow: another one has to take its place. None:
// [Manager.Reconfigure] can go on with next.
func (c Config) Fixed(next Config) []string {
	before, after := reflect.ValueOf(c.WithDefaults()), reflect.ValueOf(next.WithDefaults())
	names := []string{"Name", "Interface", "VirtualMAC", "MacvlanName", "NoAccept", "Owner"}
	return slices.DeleteFunc(names, func(name string) bool {
		return reflect.DeepEqual(before.FieldByName(name).Interface(), after.FieldByName(name).Interface())
	})
}
