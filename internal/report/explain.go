package report

import (
	"fmt"
	"net/netip"
	"strings"
)

// Explanation says why a node has an address or not.
type Explanation struct {
	Address string `json:"address"`
	Router  string `json:"router"` // that has it in its list
	// Held: it is on this node's interface.
	Held bool `json:"held"`
	// Sentences: the answer first, and its cause; then what supports it.
	Sentences []string `json:"sentences"`
	// Next is what to look at, or to do, the likeliest first.
	Next []string `json:"next,omitempty"`
}

// Explain says why the node of a status has an address or not. events are the latest ones,
// the oldest first.
func Explain(s *Status, events []Event, addr netip.Addr) (Explanation, error) {
	r := routerWith(s, addr)
	if r == nil {
		return Explanation{}, fmt.Errorf("%w: no router of %s has the address %v: want one of %s", ErrUnknown, s.Node.Host, addr, strings.Join(addressesOf(s), ", "))
	}
	e := Explanation{Address: addr.String(), Router: r.Name, Held: r.Held && r.State == "Active"}
	has := "does not have"
	if e.Held {
		has = "has"
	}
	e.Sentences = []string{fmt.Sprintf("%s %s %v: its router %s is %s.", s.Node.Host, has, addr, r.Name, r.State)}
	return e, nil
}

// routerWith is the router with an address; nil: none has it.
func routerWith(s *Status, addr netip.Addr) *Router {
	for i, r := range s.Routers {
		for _, a := range r.Addresses {
			if p, err := netip.ParsePrefix(a.Address); err == nil && p.Addr() == addr {
				return &s.Routers[i]
			}
		}
	}
	return nil
}

// addressesOf are the virtual addresses of all routers, without their prefix lengths.
func addressesOf(s *Status) (all []string) {
	for _, r := range s.Routers {
		for _, a := range r.Addresses {
			address, _, _ := strings.Cut(a.Address, "/")
			all = append(all, address)
		}
	}
	return all
}
