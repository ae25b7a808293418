package daemon

import (
	"slices"
	"sync"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// group is a set of routers that move together.
type group struct {
	cfg   config.Group
	group *vrrp.Group

	mu     sync.Mutex
	states map[string]string // by router: its state in Keepalived's words
	state  string            // of the group; empty: not known yet
}

func newGroup(cfg config.Group) *group {
	return &group{cfg: cfg, group: vrrp.NewGroup(cfg.Name), states: map[string]string{}}
}

// configure goes on with other members.
func (g *group) configure(cfg config.Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cfg = cfg
	for name := range g.states {
		if !slices.Contains(cfg.Routers, name) {
			delete(g.states, name)
		}
	}
}

// report takes in the state of a member, and returns that of the group if it
// has changed.
func (g *group) report(router, state string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.states[router] = state
	count := map[string]int{}
	for _, s := range g.states {
		count[s]++
	}
	var now string
	switch n := len(g.cfg.Routers); {
	case count["FAULT"] > 0:
		now = "FAULT"
	case len(g.states) < n || count["STOP"] > 0 && count["STOP"] < n:
		return "", false // some members are on their way
	case count["STOP"] == n:
		now = "STOP"
	case count["MASTER"] == n:
		now = "MASTER"
	default:
		now = "BACKUP"
	}
	changed := now != g.state
	g.state = now
	return now, changed
}
