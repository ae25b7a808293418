package config

import (
	"time"

	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

func (r *Router) value() value { return object(r.keys()).position(&r.Pos) }

func (r *Router) keys() []key {
	return append(owned([]key{
		required("name", name(&r.Name), "VI_1", "in logs, metrics and scripts"),
		required("interface", plain(&r.Interface), "eth0", "network interface that gets the addresses"),
		required("vrid", integer(&r.VRID), "51",
			"virtual router identifier, the same on all nodes; what another pair sends with it, none of whose addresses are these, is dropped"),
		setting("priority", integer(&r.Priority), "the highest serves; 255: this node owns the addresses"),
		setting("version", integer(&r.Version), "of VRRP; IPv6 needs 3"),
		setting("interval", duration(&r.Interval), "between advertisements; version 2: 1s to 255s in whole seconds, the same on all nodes"),
		setting("preempt", not(&r.NoPreempt), "take the addresses from a node with a lower priority"),
		setting("preempt_delay", duration(&r.PreemptDelay), "wait before preempting"),
		setting("start_delay", duration(&r.StartDelay), "wait after the start before taking the addresses"),
		optional("start_delay_uptime", within(duration(&r.StartDelayUptime), time.Second, 24*time.Hour), "5m",
			"start_delay counts only while the host has been up for less, in a container its host: a later start of havip does not wait; default: it always counts"),
		setting("down_multiplier", integer(&r.DownMultiplier), "intervals of silence after which the serving node counts as dead"),
		optional("addresses", list(&r.Addresses, virtualAddress), "[192.168.31.250/24]",
			"virtual addresses, of one family: each alone, or a mapping as below; default: none, as on all other nodes: only notify is told"),
		optional("family", word(&r.Family, "ipv4", "ipv6"), "ipv6",
			"of a router without addresses, peers and source, which say it otherwise; default: ipv4"),
		optional("excluded", list(&r.Excluded, virtualAddress), "[192.168.32.250/24]",
			"further addresses, of any family, that move along but are not in advertisements; those of the other family do not hold the rest back where they cannot be put"),
		optional("routes", list(&r.Routes, route), "[{to: 10.0.0.0/8, via: 192.168.31.1}]", "routes that exist while the addresses are here"),
		setting("accept", not(&r.NoAccept),
			"take in what is sent to the addresses; false: drop it, where they are a gateway and no server"),
		setting("takeover", boolean(&r.Takeover),
			"remove what a killed Keepalived left of the addresses, where it looks like an addition to the host: never an interface's only address, nor what a route needs; without it an address that havip has not put there is a fault, and is never removed"),
		preset("virtual_mac", boolean(&r.VirtualMAC), "false",
			"put the addresses on a macvlan with the hardware address of the VRID, which moves along; multicast advertisements come from it, too"),
		preset("xmit_base", boolean(&r.XmitBase), "false",
			"with virtual_mac: advertisements come from the interface's own hardware address, for Keepalived with vmac_xmit_base, which hears no others"),
		optional("macvlan", plain(&r.MacvlanName), "vrrp.51", "name of the macvlan; default: vrrp.VRID, or vrrp6.VRID"),
		optional("source", address(&r.VRRP.Source), "192.168.31.240",
			"sender of advertisements; default: the interface's first IPv4 or its link-local IPv6 address"),
		optional("peers", list(&r.Peers, address), "[192.168.31.241]", "the other nodes: unicast; default: multicast"),
		setting("ttl", integer(&r.TTL), "of unicast advertisements"),
		setting("min_ttl", within[uint8](integer(&r.MinTTL), 0, 255), "least TTL of unicast advertisements that are accepted"),
		setting("max_ttl", integer(&r.MaxTTL), "greatest TTL of unicast advertisements that are accepted"),
		setting("checksum", choice(&r.Checksum),
			"sent in version 3 over IPv4; all are accepted; message-only is RFC 9568's, which Keepalived drops; "+
				"old-unicast, with peers only, is Keepalived's old_unicast_checksum"),
		optional("auth", r.authValue(), "", "authentication; default: none").secret(),
		preset("lease", lease(&r.Lease), "auto",
			"the kernel removes addresses that were not renewed for so long; auto: before a peer takes over; 0s: it never does"),
		preset("announce", object(announceKeys(&r.VIP)), "{}", "gratuitous ARP and neighbour advertisements"),
		setting("probe", duration(&r.Probe), "ask for so long whether another host has the addresses, before taking them"),
		optional("track", list(&r.Track, (*Track).value), "", "checks that the addresses follow"),
	}, homeOf(&r.VRRP), homeOf(&r.VIP), inside(r)), notifyKeys(&r.Listeners)...)
}

func announceKeys(v *VIP) []key {
	a := &v.Announce
	return owned([]key{
		setting("rounds", list(&a.Rounds, func(to *time.Duration) value { return within(duration(to), 0, time.Hour) }), "when, after the addresses were taken"),
		setting("burst", integer(&a.Burst), "how often in each round"),
		setting("refresh", duration(&a.Refresh), "once more after each such time; 0s: never"),
	}, homeOf(v))
}

// authTypes are the ways to authenticate advertisements.
func authTypes() []variant[Router] {
	password := func(r *Router) []key {
		return []key{required("secret", secret(&r.Auth.Secret), "d0cker", "its first 8 bytes count; file:PATH and env:NAME keep it out of here").secret()}
	}
	return []variant[Router]{
		{name: "pass", doc: "version 2 only; the password is sent in clear", keys: password},
		{name: "ah", doc: "version 2 over IPv4 only", keys: password},
		{name: "hmac", doc: "any version; of Keepalived, 2.4.2 and newer have it", keys: (*Router).hmacKeys},
	}
}

func (r *Router) authValue() value {
	v := typed(r, &r.Auth.Type, authTypes(), authTypes())
	v.to = []*target{{to: &r.Auth}}
	return v
}

func (r *Router) hmacKeys() []key {
	h := &r.VRRP.Auth.HMAC
	return owned([]key{
		required("keys", list(&r.Auth.Keys, (*Key).value), "[{id: 1, secret: file:PATH}]", "several while they are being changed").secret(),
		optional("active_key", positive(integer(&h.ActiveKey)), "1", "the key that signs; default: the first"),
		setting("mode", choice(&h.Mode), "permissive accepts unsigned, receive-only sends unsigned"),
		setting("replay", choice(&h.Replay), "how freshness is judged; time needs synchronised clocks"),
		optional("window", positive(duration(&h.Window)), "5s",
			"how far clocks may differ, the same on all nodes, or one drops what another takes; default: three intervals, at least 5s"),
	}, hmacHome(&r.VRRP))
}

// hmacHome is the home of the rows of type hmac, whatever the type.
func hmacHome(c *vrrp.Config) *home {
	h := homeOf(c)
	h.validate = func() error {
		typed := *c
		typed.Auth.Type = vrrp.AuthHMAC
		return typed.Validate()
	}
	return h
}

func (k *Key) value() value {
	return object(owned([]key{
		required("id", within[uint8](integer(&k.ID), 1, 255), "1", ""),
		required("secret", secret(&k.Secret), "0123456789abcdef0123456789abcdef", "32 to 64 bytes, hex: and digits, file:PATH or env:NAME").secret(),
	}, inside(k)))
}

// virtualAddress is a mapping, or the address alone.
func virtualAddress(a *vip.Address) value {
	return orAlone(owned([]key{
		required("address", prefix(&a.Prefix), "192.168.31.250/24", "without a length: /32 or /128"),
		optional("interface", plain(&a.Interface), "eth1", "default: the router's, or its macvlan"),
		optional("label", plain(&a.Label), "eth0:vip", "of an IPv4 address"),
		setting("scope", choice(&a.Scope), "of an IPv4 address; the same as that of others in its network"),
	}, homeOf(a)))
}

func route(t *vip.Route) value {
	return object(owned([]key{
		required("to", network(&t.Destination), "10.0.0.0/8", "destination; 0.0.0.0/0 or ::/0 is the default route"),
		optional("via", address(&t.Gateway), "192.168.31.1", "gateway; default: none, on the link"),
		optional("interface", plain(&t.Interface), "eth1", "default: the router's"),
		optional("source", address(&t.Source), "192.168.31.250", "preferred source; default: the kernel chooses"),
		setting("table", integer(&t.Table), "routing table; 254 is the main one"),
		optional("metric", positive(integer(&t.Metric)), "100", "the least wins; default: the kernel's"),
	}, homeOf(t)))
}
