package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

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

// has tells whether a plain address is of the family.
func (f family) has(a netip.Addr) bool {
	return a.Is4() == (f == familyIPv4) && !a.Is4In6()
}

// family returns the family of the first address that is configured, or of what
// IPv6 says if there is none.
func (c *Config) family() family {
	ipv6 := c.IPv6
	for _, list := range [][]netip.Addr{{c.Source}, c.Peers, c.Addresses} {
		if len(list) > 0 && list[0].IsValid() {
			ipv6 = list[0].Is6() && !list[0].Is4In6()
		}
	}
	if ipv6 {
		return familyIPv6
	}
	return familyIPv4
}

// owner tells whether the router owns the addresses (RFC 9568 §6.1).
func (c *Config) owner() bool { return c.Priority == 255 }

// validate checks c and fills in the defaults. The slices of a validated
// Config are its own, and validating it again changes nothing.
func (c *Config) validate() error {
	if c.Name == "" {
		c.Name = fmt.Sprintf("%d/%v", c.VRID, c.family())
	}
	c.Logger = quietlog.New(c.Logger)
	for _, check := range []func(*Config) error{
		(*Config).validateElection,
		(*Config).validateInterval,
		(*Config).validateAddresses,
		(*Config).validateTransport,
		(*Config).validateAuth,
	} {
		if err := check(c); err != nil {
			return fmt.Errorf("vrrp: %s: %w", c.Name, err)
		}
	}
	return nil
}

// validateElection checks what decides who becomes Active.
func (c *Config) validateElection() error {
	if c.VRID == 0 {
		return fmt.Errorf("VRID 0: want 1 to 255")
	}
	if c.Priority == 0 {
		c.Priority = 100
	}
	if c.PreemptDelay < 0 {
		return fmt.Errorf("preempt delay %v: want 0 or more", c.PreemptDelay)
	}
	if c.PreemptDelay > 0 && c.NoPreempt {
		return fmt.Errorf("preempt delay %v with NoPreempt, which never preempts: set only one of them", c.PreemptDelay)
	}
	if c.StartDelay < 0 {
		return fmt.Errorf("start delay %v: want 0 or more", c.StartDelay)
	}
	if c.DownMultiplier == 0 {
		c.DownMultiplier = 3
	}
	if c.DownMultiplier < 1 || c.DownMultiplier > 255 {
		return fmt.Errorf("down multiplier %d: want 1 to 255", c.DownMultiplier)
	}
	return nil
}

// validateInterval checks the version and what its packets can carry: 8 bits
// of seconds in version 2 (RFC 3768 §5.3.7), 12 bits of centiseconds in
// version 3 (RFC 9568 §5.2.7).
func (c *Config) validateInterval() error {
	if c.Version == 0 {
		c.Version = 3
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	unit, most, want := 10*time.Millisecond, 4095*10*time.Millisecond, "10ms to 40.95s in steps of 10ms"
	switch {
	case c.Version == 2 && c.family() == familyIPv6:
		return fmt.Errorf("version 2 with IPv6 addresses: use version 3")
	case c.Version == 2:
		unit, most, want = time.Second, 255*time.Second, "1s to 255s in whole seconds"
	case c.Version != 3:
		return fmt.Errorf("version %d: want 2 or 3", c.Version)
	}
	if c.Interval < unit || c.Interval > most || c.Interval%unit != 0 {
		return fmt.Errorf("interval %v: version %d wants %s", c.Interval, c.Version, want)
	}
	return nil
}

// validateAddresses checks the virtual addresses.
func (c *Config) validateAddresses() error {
	if n := len(c.Addresses); n > 255 {
		return fmt.Errorf("%d addresses: want up to 255", n)
	}
	if c.IPv6 && c.family() != familyIPv6 {
		return fmt.Errorf("IPv6 with addresses of IPv4: leave it out")
	}
	if err := c.validateHosts("addresses", c.Addresses); err != nil {
		return err
	}
	if c.family() == familyIPv6 && len(c.Addresses) > 0 && !c.Addresses[0].IsLinkLocalUnicast() {
		return fmt.Errorf("addresses: the first is %v: put a link-local address (fe80::/10) first (RFC 9568 §5.2.9)", c.Addresses[0])
	}
	c.Addresses = slices.Clone(c.Addresses)
	return nil
}

// validateHosts checks that list has hosts' addresses of the router's family,
// none of them twice.
func (c *Config) validateHosts(field string, list []netip.Addr) error {
	for i, a := range list {
		if err := c.validateHost(field, a); err != nil {
			return err
		}
		if slices.Contains(list[:i], a) {
			return fmt.Errorf("%s: %v is there twice", field, a)
		}
	}
	return nil
}

func (c *Config) validateHost(field string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("%s: the zero Addr is no address", field)
	case a.Is4In6():
		return fmt.Errorf("%s: %v: write it as %v", field, a, a.Unmap())
	case a.Zone() != "":
		return fmt.Errorf("%s: %v: leave out the zone, the Conn has the interface", field, a)
	case !c.family().has(a):
		return fmt.Errorf("%s: %v is not an %v address: one router serves one family, run a second one for the other", field, a, c.family())
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s: %v: want the address of a host", field, a)
	}
	return nil
}

// owns tells whether an address is the owner's own.
func (c *Config) owns(a netip.Addr) bool { return c.owner() && slices.Contains(c.Addresses, a) }

// moves tells whether an address goes from router to router. The owner's do not:
// they are its host's own (RFC 9568 §6.1).
func (c *Config) moves(a netip.Addr) bool {
	return !c.owner() && slices.Contains(c.Addresses, a)
}

// validateTransport checks how advertisements travel.
func (c *Config) validateTransport() error {
	unicast := len(c.Peers) > 0
	if err := c.validateHosts("peers", c.Peers); err != nil {
		return err
	}
	if i := slices.IndexFunc(c.Peers, c.moves); i >= 0 {
		return fmt.Errorf("peers: %v is one of Addresses: list the other routers' own addresses", c.Peers[i])
	}
	c.Peers = slices.Clone(c.Peers)
	if c.Source.IsValid() {
		if err := c.validateHost("source", c.Source); err != nil {
			return err
		}
		if c.moves(c.Source) {
			return fmt.Errorf("source: %v is one of Addresses: want the host's own address", c.Source)
		}
		if c.family() == familyIPv6 && !unicast && !c.Source.IsLinkLocalUnicast() {
			return fmt.Errorf("source: %v: multicast wants a link-local address (RFC 9568 §5.1.2.1)", c.Source)
		}
		if slices.Contains(c.Peers, c.Source) {
			return fmt.Errorf("peers: %v is this router's own Source: list only the others", c.Source)
		}
	}
	if c.TTL == 0 {
		c.TTL = 255
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = 255
	}
	switch {
	case !unicast && (c.TTL != 255 || c.MinTTL != 0 || c.MaxTTL != 255):
		return fmt.Errorf("TTL, MinTTL or MaxTTL without Peers: multicast always uses 255, leave them out")
	case unicast && c.VirtualMAC:
		return fmt.Errorf("VirtualMAC with Peers: unicast advertisements leave from the interface's own address, leave it out")
	case c.MinTTL > c.MaxTTL:
		return fmt.Errorf("MinTTL %d is above MaxTTL %d", c.MinTTL, c.MaxTTL)
	case c.Checksum > ChecksumOldUnicast:
		return fmt.Errorf("checksum form %d: want ChecksumPseudoHeader, ChecksumMessage or ChecksumOldUnicast", c.Checksum)
	case c.Checksum != ChecksumPseudoHeader && (c.Version != 3 || c.family() != familyIPv4):
		return fmt.Errorf("checksum form: only version 3 over IPv4 has a choice, leave it out")
	case c.Checksum == ChecksumOldUnicast && !unicast:
		return fmt.Errorf("checksum form: ChecksumOldUnicast without Peers: it is the same as ChecksumPseudoHeader, leave it out")
	}
	return nil
}

// validateAuth checks how advertisements are authenticated.
func (c *Config) validateAuth() error {
	a := &c.Auth
	if a.Type > AuthHMAC {
		return fmt.Errorf("auth: type %d: want AuthNone, AuthPass, AuthAH or AuthHMAC", a.Type)
	}
	password := a.Type == AuthPass || a.Type == AuthAH
	switch {
	case password && a.Password == "":
		return fmt.Errorf("auth: no password")
	case !password && a.Password != "":
		return fmt.Errorf("auth: a password, but the type is not AuthPass or AuthAH")
	case password && c.Version != 2:
		return fmt.Errorf("auth: version 3 has no passwords: use AuthHMAC, or version 2")
	}
	if a.Type == AuthHMAC {
		return a.HMAC.validate(c.Interval)
	}
	if h := a.HMAC; len(h.Keys) > 0 || h.ActiveKey != 0 || h.Mode != 0 || h.Replay != 0 || h.Window != 0 {
		return fmt.Errorf("auth: HMAC is set, but the type is not AuthHMAC")
	}
	return nil
}

func (h *HMACConfig) validate(interval time.Duration) error {
	if len(h.Keys) == 0 {
		return fmt.Errorf("auth: HMAC has no keys: want at least one")
	}
	h.Keys = slices.Clone(h.Keys)
	if h.ActiveKey == 0 {
		h.ActiveKey = h.Keys[0].ID
	}
	ids := make(map[uint8]bool)
	for i := range h.Keys {
		k := &h.Keys[i]
		switch {
		case k.ID == 0:
			return fmt.Errorf("auth: HMAC key with ID 0: want 1 to 255")
		case ids[k.ID]:
			return fmt.Errorf("auth: two HMAC keys with ID %d", k.ID)
		case len(k.Secret) < 32 || len(k.Secret) > 64:
			return fmt.Errorf("auth: HMAC key %d has %d bytes: want 32 to 64", k.ID, len(k.Secret))
		}
		ids[k.ID] = true
		k.Secret = slices.Clone(k.Secret)
	}
	if h.Window == 0 {
		h.Window = min(max(3*interval, 5*time.Second), 300*time.Second)
	}
	switch {
	case !ids[h.ActiveKey]:
		return fmt.Errorf("auth: HMAC ActiveKey %d is not the ID of one of the keys", h.ActiveKey)
	case h.Mode > HMACReceiveOnly:
		return fmt.Errorf("auth: HMAC mode %d: want HMACEnforce, HMACPermissive or HMACReceiveOnly", h.Mode)
	case h.Replay > ReplayMonotonic:
		return fmt.Errorf("auth: HMAC replay mode %d: want ReplayTime or ReplayMonotonic", h.Replay)
	case h.Window < time.Second || h.Window > 300*time.Second:
		return fmt.Errorf("auth: HMAC window %v: want 1s to 300s", h.Window)
	}
	return nil
}
