package daemon

import (
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// vrrpConfig is the part of a router's configuration that the protocol needs.
func vrrpConfig(c config.Router) vrrp.Config {
	vc := vrrp.Config{
		Name:           c.Name,
		VRID:           c.VRID,
		Version:        c.Version,
		Priority:       c.Priority,
		Interval:       c.Interval,
		NoPreempt:      !c.Preempt,
		PreemptDelay:   c.PreemptDelay,
		StartDelay:     c.StartDelay,
		IPv6:           c.IPv6(),
		DownMultiplier: c.DownMultiplier,
		Source:         c.Source,
		Peers:          c.Peers,
		TTL:            c.TTL,
		MinTTL:         c.MinTTL,
		MaxTTL:         c.MaxTTL,
		Auth:           auth(c.Auth),
	}
	// Unicast goes by the interface's own address.
	vc.VirtualMAC = c.VirtualMAC && !c.XmitBase && len(c.Peers) == 0
	switch c.Checksum {
	case "message-only":
		vc.Checksum = vrrp.ChecksumMessage
	case "old-unicast":
		vc.Checksum = vrrp.ChecksumOldUnicast
	}
	for _, p := range c.Addresses {
		vc.Addresses = append(vc.Addresses, p.Addr())
	}
	return vc
}

// startDelay is what a router has to wait that starts when the host has been up
// for so long.
func startDelay(c config.Router, up time.Duration) time.Duration {
	if c.StartDelayUptime > 0 && up >= c.StartDelayUptime {
		return 0
	}
	return c.StartDelay
}

func auth(c config.Auth) vrrp.Auth {
	switch c.Type {
	case "pass":
		return vrrp.Auth{Type: vrrp.AuthPass, Password: c.Secret.Reveal()}
	case "ah":
		return vrrp.Auth{Type: vrrp.AuthAH, Password: c.Secret.Reveal()}
	case "hmac":
		a := vrrp.Auth{Type: vrrp.AuthHMAC, HMAC: vrrp.HMACConfig{ActiveKey: c.ActiveKey, Window: c.Window}}
		for _, k := range c.Keys {
			a.HMAC.Keys = append(a.HMAC.Keys, vrrp.Key{ID: k.ID, Secret: []byte(k.Secret.Reveal())})
		}
		switch c.Mode {
		case "permissive":
			a.HMAC.Mode = vrrp.HMACPermissive
		case "receive-only":
			a.HMAC.Mode = vrrp.HMACReceiveOnly
		}
		if c.Replay == "monotonic" {
			a.HMAC.Replay = vrrp.ReplayMonotonic
		}
		return a
	}
	return vrrp.Auth{}
}

// scopes are the words for scopes, those of ip-address(8).
var scopes = map[string]vip.Scope{
	"global": vip.ScopeGlobal, "site": vip.ScopeSite, "link": vip.ScopeLink, "host": vip.ScopeHost,
}

// vipConfig is the part of a router's configuration that its addresses need.
func vipConfig(c config.Router) vip.Config {
	vc := vip.Config{
		Name:      c.Name,
		Interface: c.Interface,
		Lease:     c.Lease,
		Announce:  vip.Schedule{Rounds: c.Announce.Rounds, Burst: c.Announce.Burst, Refresh: c.Announce.Refresh},
		Probe:     c.Probe,
		NoAccept:  !c.Accept,
		Takeover:  c.Takeover,
		Owner:     c.Priority == ownerPriority,
	}
	if c.VirtualMAC {
		vc.VirtualMAC, vc.MacvlanName = vip.VirtualMAC(c.VRID, c.IPv6()), c.Macvlan
	}
	if c.Lease == 0 {
		vc.Lease = vip.LeaseFor(c.Interval, c.DownMultiplier)
	}
	// A host without the other family can serve in the router's own all the same,
	// if there is something to serve.
	all := slices.Concat(c.Addresses, c.Excluded)
	own := func(p netip.Prefix) bool { return p.Addr().Is6() == c.IPv6() }
	serves := slices.ContainsFunc(all, func(a config.Address) bool { return own(a.Prefix) })
	optional := func(p netip.Prefix) bool { return serves && !own(p) }
	for _, a := range all {
		vc.Addresses = append(vc.Addresses, vip.Address{
			Prefix: a.Prefix, Interface: a.Interface, Label: a.Label, Scope: scopes[a.Scope], Optional: optional(a.Prefix),
		})
	}
	for _, r := range c.Routes {
		vc.Routes = append(vc.Routes, vip.Route{
			Destination: r.To, Gateway: r.Via, Interface: r.Interface, Source: r.Source, Table: r.Table, Metric: r.Metric,
			Optional: optional(r.To),
		})
	}
	return vc
}
