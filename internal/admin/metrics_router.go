package admin

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/havip/havip/internal/report"
)

var routerFamilies = []family[*report.Router]{
	{"havip_router_state_start_timestamp_seconds", "Since when the router is in its state.",
		func(r *report.Router) float64 { return timestamp(r.Since) }},
	{"havip_router_running", "Whether the router can take part in the election at all.",
		func(r *report.Router) float64 { return boolean(r.NotRunning == "") }},
	{"havip_router_fault", "Whether a fault keeps the router out of the election. A fault that is only awaited, such as the first result of a check, is none.",
		func(r *report.Router) float64 { return boolean(len(r.Faults) > 0 && !r.Waiting) }},
	{"havip_router_priority", "The priority in force.", func(r *report.Router) float64 { return float64(r.Priority) }},
	{"havip_router_configured_priority", "The priority of the configuration file.", func(r *report.Router) float64 { return float64(r.Configured) }},
	{"havip_router_advertisement_interval_seconds", "The interval between the advertisements of the Active router.",
		func(r *report.Router) float64 { return seconds(r.Interval) }},
	{"havip_router_peers", "How many other routers were heard with this VRID, those that have left or died included.",
		func(r *report.Router) float64 { return float64(len(r.Peers)) }},
	{"havip_router_split", "Whether another router is Active although this one is, too, and has the better claim.",
		func(r *report.Router) float64 { return boolean(r.Rival != nil) }},
	{"havip_router_splits_total", "How often another router was found to be Active as well.",
		func(r *report.Router) float64 { return float64(r.Splits) }},
	{"havip_router_advertisements_sent_total", "How many advertisements were sent, to each peer of unicast.",
		func(r *report.Router) float64 { return float64(r.Sent) }},
	{"havip_router_advertisements_received_total", "How many advertisements of other routers were accepted.",
		func(r *report.Router) float64 { return float64(r.Received) }},
	{"havip_router_advertisement_send_errors_total", "How many advertisements could not be sent.",
		func(r *report.Router) float64 { return float64(r.SendErrors) }},
	{"havip_router_advertisements_mismatched_total", "How many advertisements were accepted although their interval or addresses are not those of the configuration.",
		func(r *report.Router) float64 { return float64(r.Mismatched) }},
	{"havip_router_addresses_problem", "Whether the addresses are not as they should be.",
		func(r *report.Router) float64 { return boolean(r.Problem != "") }},
	{"havip_router_addresses_reinstated_total", "How many addresses were put back that another program had removed.",
		func(r *report.Router) float64 { return float64(r.Reinstated) }},
	{"havip_router_addresses_removed_total", "How many addresses were removed that appeared while they were not to be held.",
		func(r *report.Router) float64 { return float64(r.Removed) }},
	{"havip_router_addresses_lost_total", "How often addresses that were held could not be kept.",
		func(r *report.Router) float64 { return float64(r.Lost) }},
	{"havip_router_address_conflicts_total", "How often another host claimed an address that was held here.",
		func(r *report.Router) float64 { return float64(r.Conflicts) }},
}

// addRouters exposes routers with their addresses and peers.
func (s *sheet) addRouters(routers []report.Router) {
	var all []labelled[*report.Router]
	for i := range routers {
		all = append(all, labelled[*report.Router]{&routers[i], s.label("router", routers[i].Name)})
	}
	add(s, routerFamilies, all)
	s.addRouterInfo(routers)
	s.addRouterStates(routers)
	s.addRouterCounts(routers)
	s.addAddresses(routers)
	s.addPeers(routers)
}

var routerInfoFamilies = []family[struct{}]{
	{"havip_router_info", "Always 1, with what identifies the router and its group.", func(struct{}) float64 { return 1 }},
}

func (s *sheet) addRouterInfo(routers []report.Router) {
	var all []labelled[struct{}]
	for i := range routers {
		r := &routers[i]
		family := "ipv4"
		if r.IPv6 {
			family = "ipv6"
		}
		all = append(all, labelled[struct{}]{labels: s.label("auth", r.Auth, "family", family, "group", r.Group, "interface", r.Interface,
			"router", r.Name, "version", strconv.Itoa(int(r.Version)), "vrid", strconv.Itoa(int(r.VRID)))})
	}
	add(s, routerInfoFamilies, all)
}

// routerStates are the words of Router.State, and of the label.
var routerStates = []struct{ state, label string }{{"Active", "active"}, {"Backup", "backup"}, {"Initialize", "initialize"}}

var routerStateFamilies = []family[bool]{
	{"havip_router_state", "Whether the router is in the state: of its three states, one is 1.", boolean},
}

func (s *sheet) addRouterStates(routers []report.Router) {
	var all []labelled[bool]
	for i := range routers {
		for _, w := range routerStates {
			all = append(all, labelled[bool]{routers[i].State == w.state, s.label("router", routers[i].Name, "state", w.label)})
		}
	}
	add(s, routerStateFamilies, all)
}

var transitionFamilies = []family[uint64]{
	{"havip_router_transitions_total", "How often the router changed its state, by cause.", asFloat},
}

var dropFamilies = []family[uint64]{
	{"havip_router_advertisements_dropped_total", "How many packets were discarded, by reason. Reasons without any are left out.", asFloat},
}

// addRouterCounts exposes what is counted by cause or by reason.
func (s *sheet) addRouterCounts(routers []report.Router) {
	var transitions, drops []labelled[uint64]
	for i := range routers {
		r := &routers[i]
		for _, cause := range slices.Sorted(maps.Keys(r.Causes)) {
			transitions = append(transitions, labelled[uint64]{r.Causes[cause], s.label("cause", cause, "router", r.Name)})
		}
		for _, d := range r.Drops {
			drops = append(drops, labelled[uint64]{d.Count, s.label("reason", d.Reason, "router", r.Name)})
		}
	}
	add(s, transitionFamilies, transitions)
	add(s, dropFamilies, drops)
}

var addressFamilies = []family[bool]{
	{"havip_address_held", "Whether the virtual address is on the interface of this node.", boolean},
}

func (s *sheet) addAddresses(routers []report.Router) {
	var all []labelled[bool]
	for i := range routers {
		r := &routers[i]
		for _, a := range r.Addresses {
			all = append(all, labelled[bool]{r.Held, s.label("address", withoutPrefix(a.Address), "router", r.Name)})
		}
	}
	add(s, addressFamilies, all)
}

// withoutPrefix is an address by which all nodes call it, whatever prefix length each has.
func withoutPrefix(address string) string {
	if p, err := netip.ParsePrefix(address); err == nil {
		return p.Addr().String()
	}
	return address
}

var peerFamilies = []family[*report.Peer]{
	{"havip_router_peer_last_heard_timestamp_seconds", "When the latest advertisement of the peer came.",
		func(p *report.Peer) float64 { return timestamp(p.LastHeard) }},
	{"havip_router_peer_priority", "The priority of the peer's latest advertisement; 0 if the peer said that it leaves.",
		func(p *report.Peer) float64 { return float64(p.Priority) }},
}

func (s *sheet) addPeers(routers []report.Router) {
	var all []labelled[*report.Peer]
	for i := range routers {
		for j := range routers[i].Peers {
			p := &routers[i].Peers[j]
			all = append(all, labelled[*report.Peer]{p, s.label("peer", p.Address, "router", routers[i].Name)})
		}
	}
	add(s, peerFamilies, all)
}
