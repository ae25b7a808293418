package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/vip"
)

// What a change costs, in a sentence for who decides whether it can be made now.

// handsOver is what it costs that an Active router ends.
const handsOver = "a peer takes the addresses over, and the TCP connections through this host end; without a peer nobody answers any more"

// routerCost is what a change of a router costs; empty: nothing.
func routerCost(old plannedRouter, next *routerPlan, f fate) string {
	switch {
	case f == replace && next.fixed == "":
		return "it has not begun yet: nothing is lost"
	case f == replace && old.active:
		return fmt.Sprintf("it hands over to a peer, which answers within %s, and the TCP connections through this host end; "+
			"without a peer nobody answers for about %s", field.Span(skew(next.cfg)), field.Span(away(next.cfg)))
	case f == replace:
		return "it has no address now, and none moves"
	}
	var costs []string
	if cost := unheardCost(old.cfg, next.cfg); cost != "" {
		costs = append(costs, cost)
	}
	if gone := goneAddresses(old.cfg, next.cfg); len(gone) > 0 && old.active {
		costs = append(costs, "connections to "+strings.Join(gone, ", ")+" end")
	}
	if old.active && next.cfg.Priority < old.cfg.Priority {
		costs = append(costs, "a peer that preempts, and has a higher priority then, takes the addresses over")
	}
	if !old.active && next.cfg.Priority > old.cfg.Priority && !next.cfg.NoPreempt {
		costs = append(costs, "it takes the addresses from a node with a lower priority")
	}
	return strings.Join(costs, "; ")
}

// unheardCost is what it costs if the peers have not changed yet.
func unheardCost(old, next config.Router) string {
	differs := old.Differences(next)
	has := func(key string) bool { return slices.Contains(differs, key) }
	switch {
	case has("auth"):
		return "until the peers have the same authentication, nobody may be heard, and two nodes hold the addresses"
	case has("peers") && (len(old.Peers) == 0) != (len(next.Peers) == 0):
		return "until the peers use unicast or multicast as well, nobody is heard, and two nodes hold the addresses"
	case has("interval") && next.Version == 2:
		return "until the peers have the same interval, they discard what this node sends, and two nodes may hold the addresses"
	}
	return ""
}

// skew bounds how long a peer waits after a farewell (RFC 9568 §6.1): an interval, for a
// priority of 0.
func skew(c config.Router) time.Duration { return c.VRRPConfig().WithDefaults().Interval }

// away is how long a router listens before it takes addresses that nobody has: the
// intervals after which an Active router counts as dead, and its skew time.
func away(c config.Router) time.Duration {
	v := c.VRRPConfig().WithDefaults()
	wait := time.Duration(v.DownMultiplier)*v.Interval + v.Interval*time.Duration(256-int(v.Priority))/256
	return wait.Round(10 * time.Millisecond)
}

// goneAddresses are those that a router has no more.
func goneAddresses(old, next config.Router) (gone []string) {
	for _, a := range old.AllAddresses() {
		if !slices.ContainsFunc(next.AllAddresses(), func(b vip.Address) bool { return a.Prefix.Addr() == b.Prefix.Addr() }) {
			gone = append(gone, a.Prefix.Addr().String())
		}
	}
	return gone
}

// serviceKeys are the keys for which a service cannot go on in place.
func serviceKeys(old plannedService, next config.Service, f fate) (keys []string) {
	if f != replace {
		return nil
	}
	if old.cfg.Mode != next.Mode {
		keys = append(keys, "mode")
	}
	if socketKey(old.cfg) != socketKey(next) {
		keys = append(keys, "listen")
	}
	return keys
}

// serviceCost is what a change of a service costs; empty: nothing.
func serviceCost(old, next config.Service, f fate) string {
	switch {
	case f == replace && socketKey(old) != socketKey(next):
		return fmt.Sprintf("nobody answers at %s any more: %s", listenAddress(old.Listen), ending(old))
	case f == replace && old.Mode != next.Mode:
		return "what arrives from now on is served as " + next.Mode + "; " + ending(old)
	case f == replace:
		return "it has not begun yet: nothing is lost"
	}
	gone := goneBackends(old, next)
	if len(gone) == 0 {
		return ""
	}
	if t := next.Pool.DrainTimeout; t > 0 {
		return fmt.Sprintf("connections to %s are cut after %s", strings.Join(gone, ", "), field.Span(t))
	}
	return fmt.Sprintf("connections to %s go on, and no new ones come", strings.Join(gone, ", "))
}

// goneBackends are those that a service has no more, in any of its pools.
func goneBackends(old, next config.Service) (gone []string) {
	for _, u := range upstreamConfigs(old, nil) {
		is, _ := poolOf(next, u.route)
		for _, b := range u.pool.WithDefaults().Backends {
			if _, there := backendIn(is.Backends, b.Name); !there && !slices.Contains(gone, b.Name) {
				gone = append(gone, b.Name)
			}
		}
	}
	return gone
}

// ending is what becomes of the connections of a service that ends.
func ending(s config.Service) string {
	timeout := s.HTTP.WithDefaults().ShutdownTimeout
	switch s.Mode {
	case "udp":
		return "its sessions end"
	case "tcp":
		timeout = s.TCP.WithDefaults().ShutdownTimeout
	}
	if timeout <= 0 {
		return "its connections are cut"
	}
	return fmt.Sprintf("its connections have %s to finish", field.Span(timeout))
}
