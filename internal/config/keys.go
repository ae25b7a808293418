package config

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// later lists what is decoded, or foreseen, while no package does anything with
// it: a key without effect would be a lie, so it is refused. When the
// implementation comes its line goes; what is a foreseen key also gets its row
// below. Form: path, or path=word.
var later = []string{
	"admin",
	"services[].dataplane",
}

func (c *Config) keys() []key {
	return []key{
		preset("log", object(nil, c.Log.keys()), "{}", "what is logged, to standard error"),
		preset("admin", object(nil, c.Admin.keys()), "{}", "where the daemon is asked and controlled"),
		optional("checks", checks(&c.Checks), "", "health checks, by name"),
		optional("vrrp", list(&c.VRRP, (*Router).value), "", "virtual routers"),
		optional("groups", list(&c.Groups, (*Group).value), "", "routers that move together"),
		optional("services", list(&c.Services, (*Service).value), "", "what is balanced over backends"),
	}
}

func (l *Log) keys() []key {
	return []key{
		preset("level", word(&l.Level, "debug", "info", "warn", "error"), "info", ""),
		preset("format", word(&l.Format, "text", "json"), "text", ""),
	}
}

func (a *Admin) keys() []key {
	return []key{
		preset("socket", absolutePath(&a.Socket), "/run/havip/havip.sock", "control socket"),
		optional("listen", listenAddress(&a.Listen), "127.0.0.1:9650", "status page, metrics and health; read-only"),
	}
}

// authTypes are the ways to authenticate advertisements.
func authTypes() []variant[Auth] {
	password := func(a *Auth) []key {
		return []key{required("secret", secret(&a.Secret), "d0cker", "its first 8 bytes count; file:PATH and env:NAME keep it out of here").secret()}
	}
	return []variant[Auth]{
		{name: "pass", doc: "version 2 only; the password is sent in clear", keys: password},
		{name: "ah", doc: "version 2 over IPv4 only", keys: password},
		{name: "hmac", doc: "any version; of Keepalived, 2.4.2 and newer have it", keys: (*Auth).hmacKeys},
	}
}

func (r *Router) value() value { return object(&r.Pos, r.keys()) }

func (r *Router) keys() []key {
	return append([]key{
		required("name", name(&r.Name), "VI_1", "in logs, metrics and scripts"),
		required("interface", interfaceName(&r.Interface), "eth0", "network interface that gets the addresses"),
		required("vrid", integerIn(&r.VRID, 1, 255), "51",
			"virtual router identifier, the same on all nodes; what another pair sends with it, none of whose addresses are these, is dropped"),
		preset("priority", integerIn(&r.Priority, 1, 255), "100", "the highest serves; 255: this node owns the addresses"),
		preset("version", integerIn(&r.Version, 2, 3), "3", "of VRRP; IPv6 needs 3"),
		preset("interval", durationIn(&r.Interval, 10*time.Millisecond, 255*time.Second), "1s",
			"between advertisements; version 2: whole seconds, the same on all nodes; version 3: up to 40.95s, in steps of 10ms"),
		preset("preempt", boolean(&r.Preempt), "true", "take the addresses from a node with a lower priority"),
		preset("preempt_delay", durationIn(&r.PreemptDelay, 0, 1000*time.Second), "0s", "wait before preempting"),
		preset("start_delay", durationIn(&r.StartDelay, 0, 1000*time.Second), "0s",
			"wait after the start before taking the addresses"),
		optional("start_delay_uptime", durationIn(&r.StartDelayUptime, time.Second, 24*time.Hour), "5m",
			"start_delay counts only while the host has been up for less, in a container its host: a later start of havip does not wait; default: it always counts"),
		preset("down_multiplier", integerIn(&r.DownMultiplier, 1, 255), "3",
			"intervals of silence after which the serving node counts as dead"),
		optional("addresses", list(&r.Addresses, (*Address).value), "[192.168.31.250/24]",
			"virtual addresses, of one family: each alone, or a mapping as below; default: none, as on all other nodes: only notify is told"),
		optional("family", word(&r.Family, "ipv4", "ipv6"), "ipv6",
			"of a router without addresses, peers and source, which say it otherwise; default: ipv4"),
		optional("excluded", list(&r.Excluded, (*Address).value), "[192.168.32.250/24]",
			"further addresses, of any family, that move along but are not in advertisements; those of the other family do not hold the rest back where they cannot be put"),
		optional("routes", list(&r.Routes, (*Route).value), "[{to: 10.0.0.0/8, via: 192.168.31.1}]",
			"routes that exist while the addresses are here"),
		preset("accept", boolean(&r.Accept), "true",
			"take in what is sent to the addresses; false: drop it, where they are a gateway and no server"),
		preset("takeover", boolean(&r.Takeover), "false",
			"remove what a killed Keepalived left of the addresses, where it looks like an addition to the host: never an interface's only address, nor what a route needs; without it an address that havip has not put there is a fault, and is never removed"),
		preset("virtual_mac", boolean(&r.VirtualMAC), "false",
			"put the addresses on a macvlan with the hardware address of the VRID, which moves along; multicast advertisements come from it, too"),
		preset("xmit_base", boolean(&r.XmitBase), "false",
			"with virtual_mac: advertisements come from the interface's own hardware address, for Keepalived with vmac_xmit_base, which hears no others"),
		optional("macvlan", interfaceName(&r.Macvlan), "vrrp.51", "name of the macvlan; default: vrrp.VRID, or vrrp6.VRID"),
		optional("source", address(&r.Source), "192.168.31.240",
			"sender of advertisements; default: the interface's first IPv4 or its link-local IPv6 address"),
		optional("peers", list(&r.Peers, address), "[192.168.31.241]", "the other nodes: unicast; default: multicast"),
		preset("ttl", integerIn(&r.TTL, 1, 255), "255", "of unicast advertisements"),
		preset("min_ttl", integerIn(&r.MinTTL, 0, 255), "0", "least TTL of unicast advertisements that are accepted"),
		preset("max_ttl", integerIn(&r.MaxTTL, 1, 255), "255", "greatest TTL of unicast advertisements that are accepted"),
		preset("checksum", word(&r.Checksum, "pseudo-header", "message-only", "old-unicast"), "pseudo-header",
			"sent in version 3 over IPv4; all are accepted; message-only is RFC 9568's, which Keepalived drops; "+
				"old-unicast, with peers only, is Keepalived's old_unicast_checksum"),
		optional("auth", r.Auth.value(), "", "authentication; default: none").secret(),
		preset("lease", lease(&r.Lease), "auto",
			"the kernel removes addresses that were not renewed for so long; auto: before a peer takes over; 0s: it never does"),
		preset("announce", r.Announce.value(), "{}", "gratuitous ARP and neighbour advertisements"),
		preset("probe", durationIn(&r.Probe, 0, 5*time.Second), "0s",
			"ask for so long whether another host has the addresses, before taking them"),
		optional("track", list(&r.Track, (*Track).value), "", "checks that the addresses follow"),
	}, notifyKeys(&r.Notify, &r.NotifyUser, &r.NotifyFIFO, &r.NotifyTimeout)...)
}

// notifyKeys are those of routers and of groups.
func notifyKeys(programs *[]Notify, user, fifo *string, timeout *time.Duration) []key {
	return []key{
		optional("notify", list(programs, (*Notify).value), "[/etc/havip/notify.sh]",
			"programs to run on a change of state, with Keepalived's arguments; one with arguments is a list of its own, or a mapping as below; "+
				"each hears of all changes in their order; of havip's environment it gets PATH, locale and time zone"),
		optional("notify_user", text(user, "user, or user:group", userForm.MatchString), "nobody",
			"who they run as; default: the user of havip; root runs only what nobody else can change"),
		optional("notify_fifo", absolutePath(fifo), "/run/havip/notify",
			"FIFO that gets a line for each change of state, in Keepalived's form; made if it is not there"),
		preset("notify_timeout", durationIn(timeout, 10*time.Millisecond, time.Hour), "30s", "for one program; then it is killed"),
	}
}

func (a *Auth) value() value {
	return typed(nil, a, &a.Type, func(*Auth) []key { return nil }, authTypes(), authTypes())
}

func (a *Auth) hmacKeys() []key {
	return []key{
		required("keys", list(&a.Keys, (*Key).value), "[{id: 1, secret: file:PATH}]", "several while they are being changed").secret(),
		optional("active_key", integerIn(&a.ActiveKey, 1, 255), "1", "the key that signs; default: the first"),
		preset("mode", word(&a.Mode, "enforce", "permissive", "receive-only"), "enforce",
			"permissive accepts unsigned, receive-only sends unsigned"),
		preset("replay", word(&a.Replay, "time", "monotonic"), "time",
			"how freshness is judged; time needs synchronised clocks"),
		optional("window", durationIn(&a.Window, time.Second, maxWindow), "5s",
			"how far clocks may differ, the same on all nodes, or one drops what another takes; default: three intervals, at least 5s"),
	}
}

// value is a mapping, or the command alone.
func (p *Notify) value() value {
	state := func(s *string) value { return word(s, "master", "backup", "fault", "stop") }
	v := object(nil, []key{
		required("command", command(&p.Command), "[/etc/havip/notify.sh]", "program and arguments; no shell"),
		optional("on", list(&p.On, state), "[master, fault]",
			"states that it is run for, without further arguments; default: all, with Keepalived's arguments"),
	})
	mapping, alone := v.decode, command(&p.Command).decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.MappingNode {
			mapping(d, n, path)
			return
		}
		alone(d, n, path)
	}
	return v
}

func (a *Announce) value() value {
	delay := func(to *time.Duration) value { return durationIn(to, 0, time.Hour) }
	return object(nil, []key{
		preset("rounds", list(&a.Rounds, delay), "[0s, 1.1s, 5s]", "when, after the addresses were taken"),
		preset("burst", integerIn(&a.Burst, 1, 100), "3", "how often in each round"),
		preset("refresh", durationIn(&a.Refresh, 0, 24*time.Hour), "0s", "once more after each such time; 0s: never"),
	})
}

// value is a mapping, or the address alone.
func (a *Address) value() value {
	const global = "global"
	v := object(nil, []key{
		required("address", prefix(&a.Prefix), "192.168.31.250/24", "without a length: /32 or /128"),
		optional("interface", interfaceName(&a.Interface), "eth1", "default: the router's, or its macvlan"),
		optional("label", label(&a.Label), "eth0:vip", "of an IPv4 address"),
		preset("scope", word(&a.Scope, global, "site", "link", "host"), global,
			"of an IPv4 address; the same as that of others in its network"),
	})
	mapping, alone := v.decode, prefix(&a.Prefix).decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.MappingNode {
			mapping(d, n, path)
			return
		}
		a.Scope = global
		alone(d, n, path)
	}
	return v
}

func (r *Route) value() value {
	return object(nil, []key{
		required("to", network(&r.To), "10.0.0.0/8", "destination; 0.0.0.0/0 or ::/0 is the default route"),
		optional("via", address(&r.Via), "192.168.31.1", "gateway; default: none, on the link"),
		optional("interface", interfaceName(&r.Interface), "eth1", "default: the router's"),
		optional("source", address(&r.Source), "192.168.31.250", "preferred source; default: the kernel chooses"),
		preset("table", integerIn(&r.Table, 1, 1<<31-1), "254", "routing table; 254 is the main one"),
		optional("metric", integerIn(&r.Metric, 1, 1<<31-1), "100", "the least wins; default: the kernel's"),
	})
}

// maxWindow is the longest window of hmac.
const maxWindow = 300 * time.Second

func (k *Key) value() value {
	return object(nil, []key{
		required("id", integerIn(&k.ID, 1, 255), "1", ""),
		required("secret", secret(&k.Secret), "0123456789abcdef0123456789abcdef", "32 to 64 bytes, hex: and digits, file:PATH or env:NAME").secret(),
	})
}

func (t *Track) value() value {
	return object(nil, []key{
		required("check", name(&t.Check), "tcp", "name under checks"),
		optional("weight", integerIn(&t.Weight, -253, 253), "-20",
			"negative: added to the priority while down; positive: while up; default: a failure releases the addresses"),
		preset("mode", word(&t.Mode, "priority", "resign"), "priority",
			"of a weight with preempt: false: resign hands over when the priority falls below a peer's last one, or that is not known; "+
				"a peer that comes back later is silent and changes nothing"),
	})
}

func (g *Group) value() value {
	return object(&g.Pos, append([]key{
		required("name", name(&g.Name), "G1", "in logs, metrics and scripts"),
		required("routers", list(&g.Routers, name), "[VI_1]", "names under vrrp"),
	}, notifyKeys(&g.Notify, &g.NotifyUser, &g.NotifyFIFO, &g.NotifyTimeout)...))
}
