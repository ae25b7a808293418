package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/havip/havip/internal/config"
)

// keysOf are the keys behind the fields that Fixed names in packages vrrp and
// vip.
var keysOf = map[string][]string{
	"VRID":        {"vrid"},
	"Version":     {"version"},
	"Priority":    {"priority"},
	"Owner":       {"priority"},
	"Addresses":   {"addresses"},
	"Auth":        {"auth"},
	"Interface":   {"interface"},
	"NoAccept":    {"accept"},
	"VirtualMAC":  {"virtual_mac", "xmit_base", "peers", "vrid", "addresses"},
	"MacvlanName": {"virtual_mac", "macvlan", "vrid", "addresses"},
}

// familyKeys take the place of addresses in keysOf where there are none.
var familyKeys = []string{"family", "peers", "source"}

// fixedKeys returns the keys of a router that differ in a way that it cannot
// follow while it runs: another one takes its place. None: reconfigure can.
func fixedKeys(a, b config.Router) []string {
	va, pa := vipConfig(a), vrrpConfig(a)
	fields := append(va.Fixed(vipConfig(b)), pa.Fixed(vrrpConfig(b))...)
	return slices.DeleteFunc(a.Differences(b), func(key string) bool {
		return !slices.ContainsFunc(fields, func(f string) bool {
			if f == "Addresses" && len(a.Addresses)+len(b.Addresses) == 0 {
				return slices.Contains(familyKeys, key)
			}
			return slices.Contains(keysOf[f], key)
		})
	})
}

// lists reports whether advertisements of a router have an address.
func lists(r config.Router, addr netip.Addr) bool {
	return slices.ContainsFunc(r.Addresses, func(a config.Address) bool { return a.Addr() == addr })
}

// has reports whether a router has an address, in advertisements or not.
func has(r config.Router, addr netip.Addr) bool {
	return lists(r, addr) || slices.ContainsFunc(r.Excluded, func(a config.Address) bool { return a.Addr() == addr })
}

// shedding is a router's configuration without those addresses that another one
// of the next configuration has in its place, and without the routes that need
// them. ok is false if it would have none left that it could advertise.
func shedding(old, next config.Router, all []config.Router) (rest config.Router, ok bool) {
	moves := func(a config.Address) bool {
		return !has(next, a.Addr()) && slices.ContainsFunc(all, func(r config.Router) bool { return r.Name != old.Name && has(r, a.Addr()) })
	}
	rest = old
	rest.Addresses = slices.DeleteFunc(slices.Clone(old.Addresses), moves)
	rest.Excluded = slices.DeleteFunc(slices.Clone(old.Excluded), moves)
	rest.Routes = slices.DeleteFunc(slices.Clone(old.Routes), func(r config.Route) bool {
		needs := func(a config.Address) bool {
			return moves(a) && (r.Source == a.Addr() || r.Via.IsValid() && a.Masked().Contains(r.Via))
		}
		return slices.ContainsFunc(old.Addresses, needs) || slices.ContainsFunc(old.Excluded, needs)
	})
	return rest, len(rest.Addresses) > 0 || len(old.Addresses) == 0
}

// shedAddresses lets go of the addresses that move to another router.
// Advertisements list them until reconfigure.
func (r *router) shedAddresses(next config.Router, all []config.Router) error {
	rest, _ := shedding(r.cfg, next, all)
	if rest.Equal(r.cfg) {
		return nil
	}
	fc := r.failover(r.cfg, r.members)
	fc.VIP = r.failover(rest, r.members).VIP
	return r.reconfigureNode(fc, rest)
}

// reconfigure goes on with another configuration in place, as far as fixedKeys
// allows. Should its addresses or routes be impossible, those of before stay, and
// everything else counts all the same.
func (r *router) reconfigure(cfg config.Router, checks map[string]*check) error {
	next := func(cfg config.Router) error { return r.reconfigureNode(r.failover(cfg, r.members), cfg) }
	err := next(cfg)
	if err != nil {
		kept := cfg
		kept.Addresses, kept.Excluded, kept.Routes = r.cfg.Addresses, r.cfg.Excluded, r.cfg.Routes
		if again := next(kept); again != nil {
			// What a check says is not to be missed, and checks may be gone.
			r.cfg.Track = cfg.Track
			err = errors.Join(err, again)
		}
		err = fmt.Errorf("%v: %s goes on with the addresses and routes of before: %w", cfg.Pos, cfg.Name, err)
	}
	r.tracker.reconfigure(r.cfg, checks) // what it makes of the priority counts
	return err
}
