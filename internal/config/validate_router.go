package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/vip"
)

// validateRouter has the libraries check a router, and checks what only the file has.
func (d *decoder) validateRouter(r *Router, path string) {
	first := routerFamily(r)
	if own := strings.ToLower(family(first)); first.IsValid() && r.Family != "" && r.Family != own {
		d.fail(path+".family", "%s: but %s is %s: leave it out", r.Family, first, family(first))
	}
	if r.StartDelayUptime > 0 && r.StartDelay == 0 && !d.failed(path+".start_delay") {
		d.warn(path+".start_delay_uptime", "%s: does nothing without start_delay: leave it out", field.Span(r.StartDelayUptime))
	}
	if r.Priority == OwnerPriority && d.given(path+".preempt") && r.NoPreempt {
		d.fail(path+".preempt", "false: the owner of the addresses, priority 255, always preempts: leave it out or lower the priority")
	}
	if r.XmitBase && !r.VirtualMAC {
		d.fail(path+".xmit_base", "true: wants virtual_mac: true")
	}
	if n := len(r.Auth.Secret.Reveal()); n > 8 {
		d.warn(path+".auth.secret", "%v bytes: only the first 8 count", own(strconv.Itoa(n)))
	}
	d.validateScopes(r.Addresses, path+".addresses")
	d.validateScopes(r.Excluded, path+".excluded")
	keys := r.keys()
	d.report(r.VRRPConfig().Validate(), path, keys, "Auth.Password", "Auth.Secret", "Auth.HMAC.Keys", "Auth.Keys")
	var renamed []string
	for i := range r.Excluded {
		renamed = append(renamed, fmt.Sprintf("Addresses[%d]", len(r.Addresses)+i), fmt.Sprintf("Excluded[%d]", i))
	}
	d.report(r.VIPConfig().Validate(), path, keys, renamed...)
}

// validateScopes reports the scopes of IPv6 addresses. For package vip a global one is
// none at all: only the file tells that it was given.
func (d *decoder) validateScopes(addresses []vip.Address, path string) {
	for i, a := range addresses {
		if at := fmt.Sprintf("%s[%d].scope", path, i); a.Prefix.Addr().Is6() && d.given(at) && !d.failed(at) {
			d.fail(at, "%s: an IPv6 address has its own: leave it out", a.Scope)
		}
	}
}

func (d *decoder) validateTrack(r *Router, path string) {
	seen := make(map[string]string)
	preempts := (!r.NoPreempt || r.Priority == OwnerPriority) && !d.failed(path+".preempt")
	for i, t := range r.Track {
		path := fmt.Sprintf("%s.track[%d]", path, i)
		d.unique(seen, t.Check, path+".check")
		if c := d.reference(t.Check, path+".check"); c != nil && !d.hasTarget(c) {
			d.fail(d.target(c), "missing: %s follows this check: say what to probe", path)
		}
		if t.Mode == "resign" && preempts {
			d.fail(path+".mode", "resign: a peer preempts by itself with preempt: true: leave it out")
		}
		switch weighted := d.given(path + ".weight"); {
		case !weighted && t.Mode == "resign":
			d.fail(path+".mode", "resign: wants a weight; without one a failure releases the addresses anyway")
		case !weighted, d.failed(path + ".weight"):
		case t.Weight == 0:
			d.fail(path+".weight", "0: does nothing: leave it out to release the addresses on failure")
		case r.Priority == OwnerPriority:
			d.fail(path+".weight", "%d: the priority of an owner, 255, does not change: leave it out or lower the priority", t.Weight)
		case r.NoPreempt && t.Mode != "resign":
			d.warn(path+".weight", "%d: with preempt: false a changed priority alone moves no address: "+
				"leave weight out to release the addresses on failure, or add mode: resign", t.Weight)
		}
	}
}

// validateIdle warns of a router that has nothing to move and nobody to tell. In a
// group it makes sense: the other routers follow it.
func (d *decoder) validateIdle(r *Router, groups []Group, path string) {
	grouped := slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Routers, r.Name) })
	if len(r.Addresses)+len(r.Excluded)+len(r.Routes)+len(r.Notify) == 0 && r.NotifyFIFO == "" && !grouped && !d.failed(path+".addresses") {
		d.warn(path, "does nothing: add addresses, or notify if something else moves")
	}
}

// validateRouters checks each router, and routers against one another.
func (d *decoder) validateRouters(c *Config) {
	names, vrids, addresses, macvlans := make(map[string]string), make(map[string]string), make(map[string]string), make(map[string]string)
	for i := range c.VRRP {
		r, path := &c.VRRP[i], fmt.Sprintf("vrrp[%d]", i)
		d.validateRouter(r, path)
		d.validateTrack(r, path)
		d.validateIdle(r, c.Groups, path)
		d.unique(names, r.Name, path+".name")
		if first := routerFamily(r); first.IsValid() && r.VRID != 0 && r.Interface != "" {
			d.unique(vrids, fmt.Sprintf("%d on %s for %s", r.VRID, r.Interface, family(first)), path+".vrid")
		}
		if r.VirtualMAC {
			d.uniqueMacvlan(macvlans, r, path)
		}
		for j, a := range slices.Concat(r.Addresses, r.Excluded) {
			if !a.Prefix.IsValid() {
				continue
			}
			what := a.Prefix.Addr().String()
			if a.Prefix.Addr().IsLinkLocalUnicast() {
				what += " on " + cmp.Or(a.Interface, r.Interface) // each link has its own
			}
			place := fmt.Sprintf("%s.addresses[%d]", path, j)
			if own := len(r.Addresses); j >= own {
				place = fmt.Sprintf("%s.excluded[%d]", path, j-own)
			}
			if first := addresses[what]; !strings.HasPrefix(first, path+".") { // or package vip has said so
				d.unique(addresses, what, place)
			}
		}
	}
}

// uniqueMacvlan checks the name of a router's macvlan.
func (d *decoder) uniqueMacvlan(seen map[string]string, r *Router, path string) {
	name, given := macvlanName(r), d.given(path+".macvlan")
	switch first, twice := seen[name]; {
	case d.failed(path + ".macvlan"), !routerFamily(r).IsValid(), r.VRID == 0:
	case !twice:
		seen[name] = path
	case given:
		d.fail(path+".macvlan", "%s: also that of %s: each needs its own", name, first)
	default:
		d.fail(path+".virtual_mac", "%s, by default the name of the macvlan, is also that of %s: add macvlan with another name", name, first)
	}
}
