package vrrp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/words"
)

// FieldError is what is wrong with one field of a [Config]: the errors that
// [Config.Validate] joins are of this type.
type FieldError = field.Error

// family is the address family of a virtual router.
type family uint8

const (
	familyIPv4 family = 4
	familyIPv6 family = 6
)

// String returns "IPv4" or "IPv6".
func (f family) String() string {
	if f == familyIPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// familyOf returns the family that a flag selects.
func familyOf(ipv6 bool) family {
	if ipv6 {
		return familyIPv6
	}
	return familyIPv4
}

// other returns the other family.
func (f family) other() family { return familyIPv4 + familyIPv6 - f }

// has reports whether a plain address is of the family.
func (f family) has(a netip.Addr) bool {
	return a.IsValid() && a.Is4() == (f == familyIPv4) && !a.Is4In6()
}

// family returns the family of Addresses, or else of Peers, or else of Source. Without
// all of these IPv6 selects the family.
func (c *Config) family() family {
	ipv6 := c.IPv6
	for _, list := range [][]netip.Addr{{c.Source}, c.Peers, c.Addresses} {
		if i := slices.IndexFunc(list, netip.Addr.IsValid); i >= 0 {
			ipv6 = list[i].Is6() && !list[i].Is4In6()
		}
	}
	return familyOf(ipv6)
}

// owner reports whether the router owns the addresses (RFC 9568 §6.1).
func (c *Config) owner() bool { return c.Priority == 255 }

// WithDefaults returns c with its zero fields filled in. Logger, Group and
// OnTransition have no default value; an HMACConfig has one only with AuthHMAC.
func (c Config) WithDefaults() Config {
	c.Name = cmp.Or(c.Name, fmt.Sprintf("%d/%v", c.VRID, c.family()))
	c.IPv6 = c.IPv6 || c.family() == familyIPv6
	c.Version = cmp.Or(c.Version, 3)
	c.Priority = cmp.Or(c.Priority, 100)
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.DownMultiplier = cmp.Or(c.DownMultiplier, 3)
	c.TTL = cmp.Or(c.TTL, 255)
	c.MaxTTL = cmp.Or(c.MaxTTL, 255)
	if h := &c.Auth.HMAC; c.Auth.Type == AuthHMAC {
		if h.ActiveKey == 0 && len(h.Keys) > 0 {
			h.ActiveKey = h.Keys[0].ID
		}
		h.Window = cmp.Or(h.Window, min(max(3*c.Interval, 5*time.Second), maxWindow))
	}
	return c
}

// maxWindow is the longest HMACConfig.Window.
const maxWindow = 300 * time.Second

// complete returns c, if it is valid, with its defaults and with slices of its own.
func (c Config) complete() (Config, error) {
	err := c.Validate()
	if c = c.WithDefaults(); err != nil {
		return c, fmt.Errorf("vrrp: %s: %w", c.Name, err)
	}
	c.Addresses, c.Peers = slices.Clone(c.Addresses), slices.Clone(c.Peers)
	c.Auth.HMAC.Keys = slices.Clone(c.Auth.HMAC.Keys)
	for i := range c.Auth.HMAC.Keys {
		k := &c.Auth.HMAC.Keys[i]
		k.Secret = slices.Clone(k.Secret)
	}
	c.Logger = quietlog.Limited(c.Logger, nil)
	return c, nil
}

// Validate checks what can be checked without an interface. It returns all
// faults at once: a [FieldError] each, joined. Their fields are names such as
// "Peers[1]" and "Auth.HMAC.Keys[0].Secret".
func (c Config) Validate() error {
	c = c.WithDefaults()
	return errors.Join(
		c.validateElection(),
		c.validateInterval(),
		c.validateAddresses(),
		c.validatePeers(),
		c.validateSource(),
		c.validateTransport(),
		field.In("Auth", c.Auth.validate(c.Version)),
	)
}

// maxDelay bounds the delays: a router that waits for longer looks like one that is
// broken.
const maxDelay = time.Hour

// validateElection checks what decides who becomes Active.
func (c *Config) validateElection() error {
	return errors.Join(
		field.Between("VRID", c.VRID, 1, 255),
		field.Between("PreemptDelay", c.PreemptDelay, 0, maxDelay),
		field.If(c.PreemptDelay > 0 && c.NoPreempt, "PreemptDelay", "%v: want 0 for a router that does not preempt", field.Span(c.PreemptDelay)),
		field.If(c.PreemptDelay > 0 && c.owner(), "PreemptDelay", "%v: want 0 with priority 255, which preempts at once", field.Span(c.PreemptDelay)),
		field.Between("StartDelay", c.StartDelay, 0, maxDelay),
		field.Between("DownMultiplier", c.DownMultiplier, 1, 255),
	)
}

// validateInterval checks the version and what its packets can carry: 8 bits
// of seconds in version 2 (RFC 3768 §5.3.7), 12 bits of centiseconds in
// version 3 (RFC 9568 §5.2.7).
func (c *Config) validateInterval() error {
	fits := func(unit time.Duration, most int64) bool {
		return c.Interval%unit == 0 && c.Interval >= unit && c.Interval <= time.Duration(most)*unit
	}
	return errors.Join(
		field.If(c.Version != 2 && c.Version != 3, "Version", "%d: want 2 or 3", c.Version),
		field.If(c.Version == 2 && c.family() == familyIPv6, "Version", "%d: want 3 for IPv6", c.Version),
		field.If(c.Version == 2 && !fits(time.Second, 255), "Interval", "%v: want 1s to 255s in whole seconds, or version 3", field.Span(c.Interval)),
		field.If(c.Version == 3 && !fits(10*time.Millisecond, 4095), "Interval", "%v: want 10ms to 40.95s in steps of 10ms", field.Span(c.Interval)),
	)
}

// validateAddresses checks the virtual addresses. An advertisement counts them
// in one byte.
func (c *Config) validateAddresses() error {
	if n := len(c.Addresses); n > 255 {
		return field.Errorf("Addresses", "%d addresses: want up to 255", n)
	}
	errs := []error{
		field.If(c.IPv6 && c.family() != familyIPv6, "IPv6", "true: want false with addresses of IPv4"),
		c.validateHosts("Addresses", c.Addresses),
	}
	if len(c.Addresses) > 0 { // RFC 9568 §5.2.9
		a := c.Addresses[0]
		errs = append(errs, field.If(familyIPv6.has(a) && !a.IsLinkLocalUnicast(), "Addresses[0]",
			"%v: want a link-local address before the others, such as fe80::%d", a, max(1, c.VRID)))
	}
	return errors.Join(errs...)
}

// validateHosts checks that list has hosts' addresses of the router's family,
// none of them twice.
func (c *Config) validateHosts(name string, list []netip.Addr) error {
	var errs []error
	for i, a := range list {
		name := fmt.Sprintf("%s[%d]", name, i)
		errs = append(errs, c.validateHost(name, a),
			field.If(slices.Contains(list[:i], a), name, "%v: want each address once", a))
	}
	return errors.Join(errs...)
}

func (c *Config) validateHost(name string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return field.Errorf(name, "missing: want an address")
	case a.Is4In6():
		return field.Errorf(name, "%v: want %v", a, a.Unmap())
	case a.Zone() != "":
		return field.Errorf(name, "%v: want no zone: the Conn has the interface", a)
	case !c.family().has(a):
		return field.Errorf(name, "%v: want %v, the family of this router: %v needs a router of its own", a, c.family(), c.family().other())
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return field.Errorf(name, "%v: want the address of a host", a)
	}
	return nil
}

// owns reports whether an address is the owner's own.
func (c *Config) owns(a netip.Addr) bool { return c.owner() && slices.Contains(c.Addresses, a) }

// moves reports whether an address goes from router to router. The owner's do not:
// they are its host's own (RFC 9568 §6.1).
func (c *Config) moves(a netip.Addr) bool {
	return !c.owner() && slices.Contains(c.Addresses, a)
}

// validatePeers checks the addresses of the other routers.
func (c *Config) validatePeers() error {
	errs := []error{c.validateHosts("Peers", c.Peers)}
	for i, a := range c.Peers {
		name := fmt.Sprintf("Peers[%d]", i)
		errs = append(errs,
			field.If(c.moves(a), name, "%v: want the other router's own address, not a virtual one", a),
			field.If(c.Source.IsValid() && a == c.Source, name, "%v: want only the other routers: this one has that source", a))
	}
	return errors.Join(errs...)
}

// validateSource checks the address that advertisements are sent from.
func (c *Config) validateSource() error {
	if !c.Source.IsValid() {
		return nil
	}
	a := c.Source
	group := familyIPv6.has(a) && len(c.Peers) == 0
	return errors.Join(
		c.validateHost("Source", a),
		field.If(c.moves(a), "Source", "%v: want the host's own address, not a virtual one", a),
		// RFC 9568 §5.1.2.1.
		field.If(group && !a.IsLinkLocalUnicast(), "Source", "%v: want a link-local address, fe80::/10, for multicast", a),
	)
}

// validateTransport checks what only unicast, only multicast or only version 3
// over IPv4 has (RFC 9568 §5.1.1.3, §5.2.8).
func (c *Config) validateTransport() error {
	multicast := len(c.Peers) == 0
	fixed := func(name string, ttl, want uint8) error {
		return field.If(multicast && ttl != want, name, "%d: want %d, or peers: multicast always uses 255", ttl, want)
	}
	choice := c.Version == 3 && c.family() == familyIPv4
	return errors.Join(
		fixed("TTL", c.TTL, 255),
		fixed("MinTTL", c.MinTTL, 0),
		fixed("MaxTTL", c.MaxTTL, 255),
		field.If(c.MinTTL > c.MaxTTL, "MinTTL", "%d: want at most MaxTTL, %d", c.MinTTL, c.MaxTTL),
		field.If(!multicast && c.VirtualMAC, "VirtualMAC", "true: want false with peers: unicast leaves from the interface's own address"),
		validateWord("Checksum", checksumWords, c.Checksum),
		field.If(c.Checksum != ChecksumPseudoHeader && !choice, "Checksum", "%v: want %v: only version 3 over IPv4 has a choice", c.Checksum, ChecksumPseudoHeader),
		field.If(c.Checksum == ChecksumOldUnicast && multicast, "Checksum", "%v: want %v, or peers: multicast has no such form", c.Checksum, ChecksumPseudoHeader),
	)
}

// validateWord checks that v is one of an enumeration's values.
func validateWord[T words.Integer](name string, list []string, v T) error {
	return field.If(!words.Has(list, v), name, "%v: want %s", v, words.Choice(list))
}

// validate checks how advertisements of a version are authenticated.
func (a *Auth) validate(version uint8) error {
	password := a.Type == AuthPass || a.Type == AuthAH
	h := &a.HMAC
	unset := len(h.Keys) == 0 && h.ActiveKey == 0 && h.Mode == 0 && h.Replay == 0 && h.Window == 0
	errs := []error{
		validateWord("Type", authWords, a.Type),
		field.If(password && version == 3, "Type", "%v: want %v, or version 2: version 3 has no passwords", a.Type, AuthHMAC),
		field.If(password && a.Password == "", "Password", "missing: want a password"),
		field.If(!password && a.Password != "", "Password", "given: want none with type %v", a.Type),
		field.If(a.Type != AuthHMAC && !unset, "HMAC", "given: want nothing with type %v", a.Type),
	}
	if a.Type == AuthHMAC {
		errs = append(errs, field.In("HMAC", h.validate()))
	}
	return errors.Join(errs...)
}

func (h *HMACConfig) validate() error {
	errs := []error{
		field.If(len(h.Keys) == 0, "Keys", "missing: want at least one key"),
		validateWord("Mode", hmacWords, h.Mode),
		validateWord("Replay", replayWords, h.Replay),
		field.Between("Window", h.Window, time.Second, maxWindow),
	}
	ids := make(map[uint8]int)
	for i, k := range h.Keys {
		n := len(k.Secret)
		first, twice := ids[k.ID]
		errs = append(errs, field.In(fmt.Sprintf("Keys[%d]", i), errors.Join(
			field.Between("ID", k.ID, 1, 255),
			field.If(k.ID != 0 && twice, "ID", "%d: want an ID that differs from that of key %d", k.ID, first),
			field.If(n < 32 || n > 64, "Secret", "%d bytes: want 32 to 64 bytes", n),
		)))
		if !twice {
			ids[k.ID] = i
		}
	}
	if _, known := ids[h.ActiveKey]; len(h.Keys) > 0 && !known {
		errs = append(errs, field.Errorf("ActiveKey", "%d: want the ID of one of the keys", h.ActiveKey))
	}
	return errors.Join(errs...)
}
