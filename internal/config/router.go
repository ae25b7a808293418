package config

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// VRRP and VIP are names under which a Router can embed both configurations.
type (
	VRRP = vrrp.Config
	VIP  = vip.Config
)

// Router is one virtual router: the configurations of its protocol and of its
// addresses, but for what VRRPConfig and VIPConfig make of the other fields.
type Router struct {
	Pos  Position
	Name string
	VRRP `json:"-"`
	VIP  `json:"-"`
	// StartDelayUptime is until when after the host's boot StartDelay counts; 0:
	// always.
	StartDelayUptime time.Duration
	// Addresses are the virtual addresses, all of one family, with the prefix
	// length that they get on the interface. May be empty.
	Addresses []vip.Address
	Family    string // ipv4, ipv6 or empty; see IPv6
	// Excluded are further addresses, of any family, that move along and are not
	// listed in advertisements.
	Excluded   []vip.Address
	VirtualMAC bool // the addresses are on a macvlan with the VRID's hardware address
	XmitBase   bool // with VirtualMAC: advertisements do not come from there
	Auth       Auth
	Track      []Track
	Listeners
}

// Auth has the secrets of a router, and what they are for. The rest is in VRRP.Auth.
type Auth struct {
	Type   string // empty (none), or the word of a vrrp.AuthType
	Secret Secret // of pass and ah
	Keys   []Key  // of hmac
}

// Key is one key of hmac.
type Key struct {
	ID     uint8
	Secret Secret // 32 to 64 bytes
}

// OwnerPriority is that of the host whose own the addresses are (RFC 9568 §6.1).
const OwnerPriority = 255

// IPv6 reports whether the router's advertisements travel over IPv6. The
// first of Addresses, Peers and Source that is there says it, or else Family.
func (r *Router) IPv6() bool { return routerFamily(r).Is6() }

// AllAddresses returns Addresses and Excluded.
func (r *Router) AllAddresses() []vip.Address { return slices.Concat(r.Addresses, r.Excluded) }

// Has reports whether an address moves with the router, in advertisements or not.
func (r *Router) Has(a netip.Addr) bool {
	same := func(v vip.Address) bool { return v.Prefix.Addr() == a }
	return slices.ContainsFunc(r.Addresses, same) || slices.ContainsFunc(r.Excluded, same)
}

// VRRPConfig is what the protocol needs.
func (r *Router) VRRPConfig() vrrp.Config {
	c := r.VRRP
	c.Name, c.IPv6 = r.Name, r.IPv6()
	// Unicast goes by the interface's own address.
	c.VirtualMAC = r.VirtualMAC && !r.XmitBase && len(r.Peers) == 0
	c.NoOverlap = r.VirtualMAC
	c.Addresses = nil
	for _, a := range r.Addresses {
		c.Addresses = append(c.Addresses, a.Prefix.Addr())
	}
	if r.Auth.Type != "" {
		c.Auth.Type.UnmarshalText([]byte(r.Auth.Type)) // a word that decoding has accepted
	}
	c.Auth.Password = r.Auth.Secret.Reveal()
	for _, k := range r.Auth.Keys {
		c.Auth.HMAC.Keys = append(c.Auth.HMAC.Keys, vrrp.Key{ID: k.ID, Secret: []byte(k.Secret.Reveal())})
	}
	return c
}

// VIPConfig is what the addresses need. What lease auto stands for follows from the
// router, in package failover.
func (r *Router) VIPConfig() vip.Config {
	c := r.VIP
	c.Name, c.Owner = r.Name, r.Priority == OwnerPriority
	if r.VirtualMAC {
		c.VirtualMAC = vip.VirtualMAC(r.VRID, r.IPv6())
	}
	// A host may lack the family that is not the router's, as where IPv6 is disabled. It
	// then serves what is of the router's own family, if there is something.
	own := func(p netip.Prefix) bool { return p.Addr().Is6() == r.IPv6() }
	c.Addresses = r.AllAddresses()
	serves := slices.ContainsFunc(c.Addresses, func(a vip.Address) bool { return own(a.Prefix) })
	for i := range c.Addresses {
		c.Addresses[i].Optional = serves && !own(c.Addresses[i].Prefix)
	}
	c.Routes = slices.Clone(r.Routes)
	for i := range c.Routes {
		c.Routes[i].Optional = serves && !own(c.Routes[i].Destination)
	}
	return c
}

// family names the IP version of a.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// routerFamily is an address of the router's family; it is not valid if the
// router has addresses, but no valid one.
func routerFamily(r *Router) netip.Addr {
	for _, a := range r.Addresses {
		if a.Prefix.IsValid() {
			return a.Prefix.Addr()
		}
	}
	if len(r.Addresses) > 0 {
		return netip.Addr{}
	}
	for _, a := range append(slices.Clone(r.Peers), r.VRRP.Source) {
		if a.IsValid() {
			return a
		}
	}
	if r.Family == "ipv6" {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// macvlanName is that of a router's macvlan.
func macvlanName(r *Router) string { return r.VIPConfig().WithDefaults().MacvlanName }

// Equal reports whether both mean the same, wherever they were written.
func (r Router) Equal(o Router) bool { return r.Differences(o) == nil }

// Differences returns the keys in which two routers differ, in the order of the
// table.
func (r Router) Differences(o Router) (keys []string) {
	theirs := o.keys()
	for i, k := range r.keys() {
		if differ(k.value, theirs[i].value) {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// differ reports whether two values of one key are not the same.
func differ(a, b value) bool {
	theirs := b.rows()
	for i, k := range a.rows() {
		if differ(k.value, theirs[i].value) {
			return true
		}
	}
	for i, t := range a.to {
		if !reflect.DeepEqual(t.to, b.to[i].to) {
			return true
		}
	}
	return false
}
