package monitor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/vrrp"
)

// mismatch is a way in which two routers of a group can differ.
type mismatch struct {
	code   Code
	differ func(a, b *sender) bool
	// problem reports whether they discard each other's advertisements for it.
	problem func(a, b *sender) bool
	text    func(a, b *sender) string
	next    string
}

func always(_, _ *sender) bool { return true }
func never(_, _ *sender) bool  { return false }

// mismatches are in the order in which a receiver meets them. The first one says that the
// two have nothing to do with each other, and then the others do not matter.
var mismatches = []mismatch{
	{
		CodeVRIDClash,
		func(a, b *sender) bool {
			return len(a.addresses) > 0 && len(b.addresses) > 0 && !shareAddress(a, b)
		}, always,
		func(a, b *sender) string {
			return fmt.Sprintf("two virtual routers use this VRID: that of %v has %s, that of %v has %s", a.addr, list(a.addresses), b.addr, list(b.addresses))
		},
		"the VRIDs: one of the two pairs needs another one, each is good for once on a link",
	},
	{
		CodeVersion, func(a, b *sender) bool { return a.version != b.version }, always,
		func(a, b *sender) string {
			return fmt.Sprintf("the versions differ: %v speaks version %d, %v version %d", a.addr, a.version, b.addr, b.version)
		},
		"version on both (vrrp_version in Keepalived, whose default is 2)",
	},
	{
		CodeCast, func(a, b *sender) bool { return a.multicast != b.multicast }, always,
		func(a, b *sender) string {
			if !a.multicast {
				a, b = b, a
			}
			return fmt.Sprintf("%v sends to the multicast group, %v by unicast", a.addr, b.addr)
		},
		"peers on both (unicast_peer in Keepalived): both have some, or neither has",
	},
	{
		CodeAuthType, func(a, b *sender) bool { return a.version == b.version && a.auth != b.auth }, always,
		func(a, b *sender) string {
			return fmt.Sprintf("the authentication differs: %v uses %s, %v %s", a.addr, a.auth, b.addr, b.auth)
		},
		"auth on both (auth_type in Keepalived)",
	},
	{
		CodePassword, func(a, b *sender) bool { return a.auth == b.auth && a.password != b.password }, always,
		func(a, b *sender) string {
			return fmt.Sprintf("the passwords of %v and %v differ", a.addr, b.addr)
		},
		"the secret of auth on both (auth_pass in Keepalived), of which 8 characters count",
	},
	{
		CodeKey, func(a, b *sender) bool { return a.auth == b.auth && a.key != b.key }, never,
		func(a, b *sender) string {
			return fmt.Sprintf("%v signs with key %d, %v with key %d", a.addr, a.key, b.addr, b.key)
		},
		"whether both routers have both keys, as while keys are changed",
	},
	{
		CodeInterval, func(a, b *sender) bool { return a.version == b.version && a.interval != b.interval },
		func(a, _ *sender) bool { return a.version == 2 },
		func(a, b *sender) string {
			return fmt.Sprintf("the intervals differ: %v advertises every %s, %v every %s", a.addr, short(a.interval), b.addr, short(b.interval))
		},
		"interval on both (advert_int in Keepalived): version 2 discards another one, version 3 learns it",
	},
	{
		CodeAddresses, func(a, b *sender) bool { return !sameAddresses(a, b) }, never,
		func(a, b *sender) string {
			return fmt.Sprintf("the addresses differ: %v has %s, %v has %s", a.addr, list(a.addresses), b.addr, list(b.addresses))
		},
		"addresses on both (virtual_ipaddress in Keepalived, which before 2.3.3 discards other lists)",
	},
	{
		CodeChecksumForm,
		func(a, b *sender) bool {
			return a.version == 3 && b.version == 3 && a.invalid == "" && b.invalid == "" && a.checksum != b.checksum
		}, never,
		func(a, b *sender) string {
			return fmt.Sprintf("the forms of the checksum differ: %v uses %v, %v %v", a.addr, a.checksum, b.addr, b.checksum)
		},
		"checksum on both (Keepalived 2.2.7 discards all but its own)",
	},
}

// compare says how s, whose parameters have changed, differs from the others of its group,
// and where that is over.
func (w *Watcher) compare(g *group, s *sender, now time.Time) {
	for _, t := range g.senders {
		if t == s {
			continue
		}
		a, b := s, t
		if t.first.Before(s.first) {
			a, b = t, s
		}
		key, clash := pairKey(g, a, b), false
		for _, m := range mismatches {
			if clash || !m.differ(a, b) {
				w.close(m.code, key, fmt.Sprintf("%v and %v no longer differ in this: %s", a.addr, b.addr, m.code), now)
				continue
			}
			clash = m.code == CodeVRIDClash
			w.open(key, finding{code: m.code, problem: m.problem(a, b), group: g, text: m.text(a, b), next: m.next}, now)
		}
	}
}

// disagreement returns why two routers discard each other's advertisements, or nil.
func disagreement(a, b *sender) *mismatch {
	for i := range mismatches {
		if m := &mismatches[i]; m.differ(a, b) && m.problem(a, b) {
			return m
		}
	}
	return nil
}

// twoActive describes two routers that are Active at once, with the likely cause.
func (w *Watcher) twoActive(g *group, winner, loser *sender) finding {
	f := finding{
		code: CodeTwoActive, problem: true, group: g,
		text: fmt.Sprintf("two routers are Active: %v (priority %d) and %v (priority %d)", winner.addr, winner.priority, loser.addr, loser.priority),
	}
	if m := disagreement(winner, loser); m != nil {
		f.text += ": " + m.text(winner, loser)
		f.next = m.next
		return f
	}
	if winner.invalid != "" {
		f.text += fmt.Sprintf(": what %v sends is discarded: %s", winner.addr, winner.invalid)
		f.next = "the problem of " + winner.addr.String()
		return f
	}
	f.text += fmt.Sprintf(": %v does not hear %v, or discards what it hears", loser.addr, winner.addr)
	f.next = fmt.Sprintf("on %v: a firewall that drops IP protocol 112 (nft list ruleset), and the reasons in its log; between them: switches that filter %s", loser.addr, groupOf(g))
	if winner.auth == vrrp.AuthAH.String() {
		f.next = strings.Replace(f.next, "112", "51", 1) + "; the passwords, which AH does not show"
	}
	if !winner.multicast {
		f.next = fmt.Sprintf("on %v: a firewall that drops IP protocol 112 (nft list ruleset), and whether %v is one of its peers; on %v: whether %v is one", loser.addr, winner.addr, winner.addr, loser.addr)
	}
	return f
}

func groupOf(g *group) string {
	if g.ipv6 {
		return "the group ff02::12 (MLD snooping)"
	}
	return "the group 224.0.0.18 (IGMP snooping)"
}

func shareAddress(a, b *sender) bool {
	for _, one := range a.addresses {
		if slices.Contains(b.addresses, one) {
			return true
		}
	}
	return false
}

// sameAddresses reports whether two have the same addresses in any order.
func sameAddresses(a, b *sender) bool {
	if len(a.addresses) != len(b.addresses) {
		return false
	}
	for _, one := range a.addresses {
		if !slices.Contains(b.addresses, one) {
			return false
		}
	}
	return true
}

// list names addresses in a sentence: the first three of them.
func list(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "none"
	}
	var words []string
	for _, a := range addrs[:min(3, len(addrs))] {
		words = append(words, a.String())
	}
	text := strings.Join(words, ", ")
	if more := len(addrs) - len(words); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
