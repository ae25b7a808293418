package failover

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// FieldError is the error of one field of a [Config].
type FieldError = field.Error

// Config describes a virtual router and the addresses that move with it. Required
// are VRRP.VRID and VIP.Interface; without VIP.Addresses the router elects one host
// and moves nothing.
type Config struct {
	// VRRP is the virtual router. Its Addresses are what advertisements list. Nil: those of
	// VIP.Addresses that have the family of Source, else of Peers, else of the first
	// address. An empty list that is not nil: none. A hardware address that moves along,
	// VIP.VirtualMAC, sets NoOverlap.
	VRRP vrrp.Config
	// VIP is what the router moves. By default Name is the router's, Lease follows from
	// its interval ([vip.LeaseFor]), VirtualMAC from VRRP.VirtualMAC, and Owner from a
	// priority of 255. Interface is required: advertisements go by it. Entitled and
	// OnRemovals are the Node's own, and must be nil.
	VIP vip.Config
	// Conn is shared by the Nodes of one interface and family; VIP.Interface should
	// name the same interface. Default: a Conn of the Node's own.
	Conn *vrrp.Conn
	// Guard is shared by all Nodes of a process; each Node then needs a VRRP.Name of its
	// own. The program that started the guard closes it after the last Node. Default: a
	// guard of the Node's own.
	Guard *guard.Guard
	// OnRetry, if set, is called when the router cannot run for now, for instance
	// because another process of this host runs the same virtual router. Run tries again
	// after pause. OnRetry is called in Run's goroutine.
	OnRetry func(err error, pause time.Duration)
	// Logger receives what happens, from a goroutine that nothing waits for. It is
	// the default of VRRP.Logger and VIP.Logger as well. Default: silent.
	Logger *slog.Logger
}

// WithDefaults returns c with its zero fields filled in, those of VRRP and VIP
// included. It changes nothing that c refers to.
func (c Config) WithDefaults() Config {
	if c.VRRP.Addresses == nil {
		c.VRRP.Addresses = c.listed()
	}
	c.VRRP.Logger = cmp.Or(c.VRRP.Logger, c.Logger)
	c.VIP.Logger = cmp.Or(c.VIP.Logger, c.Logger)
	c.VRRP = c.VRRP.WithDefaults()
	c.VIP.Name = cmp.Or(c.VIP.Name, c.VRRP.Name)
	c.VIP.Lease = cmp.Or(c.VIP.Lease, vip.LeaseFor(c.VRRP.Interval, c.VRRP.DownMultiplier))
	if c.VIP.VirtualMAC == nil && c.VRRP.VirtualMAC {
		c.VIP.VirtualMAC = vip.VirtualMAC(c.VRRP.VRID, c.VRRP.IPv6)
	}
	c.VRRP.NoOverlap = c.VRRP.NoOverlap || c.VIP.VirtualMAC != nil
	c.VIP.Owner = c.VIP.Owner || c.VRRP.Priority == ownerPriority
	c.VIP = c.VIP.WithDefaults()
	return c
}

// ownerPriority is the priority of the owner of the addresses (RFC 9568 §5.2.4).
const ownerPriority = 255

// listed returns the addresses that advertisements list by default.
func (c Config) listed() []netip.Addr {
	var list []netip.Addr
	for _, a := range c.VIP.Addresses {
		if addr := a.Prefix.Addr(); addr.IsValid() && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	known := slices.Concat([]netip.Addr{c.VRRP.Source}, c.VRRP.Peers, list)
	i := slices.IndexFunc(known, netip.Addr.IsValid)
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return a.Is6() != known[i].Is6() })
}

// Validate returns all faults of c that can be found without the machine, joined: each is a
// [FieldError], such as one of VRRP.Priority.
func (c Config) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		field.In("VRRP", c.VRRP.Validate()), field.In("VIP", c.VIP.Validate()),
		field.If(c.VIP.Interface == "", "VIP.Interface", "missing: want the interface of the virtual router"),
		field.If(c.VIP.Entitled != nil, "VIP.Entitled", "set: want nil: the Node asks its router"),
		field.If(c.VIP.OnRemovals != nil, "VIP.OnRemovals", "set: want nil: the Node tells its guard"),
	)
}

// Fixed returns the names of the fields by which next differs from c in a way that
// no [Node] can follow: another Node has to take its place. Nil: [Node.Reconfigure]
// can go on with next. Both must be valid.
func (c Config) Fixed(next Config) (names []string) {
	c, next = c.WithDefaults(), next.WithDefaults()
	for _, name := range c.VRRP.Fixed(next.VRRP) {
		names = append(names, "VRRP."+name)
	}
	for _, name := range c.VIP.Fixed(next.VIP) {
		names = append(names, "VIP."+name)
	}
	return names
}

// sameRouter reports whether both describe the same virtual router to its peers.
func (c Config) sameRouter(next Config) bool {
	comparable := func(v vrrp.Config) vrrp.Config {
		v.Group, v.OnTransition, v.Logger = nil, nil, nil
		return v
	}
	return c.VRRP.Group == next.VRRP.Group && reflect.DeepEqual(comparable(c.VRRP), comparable(next.VRRP))
}
