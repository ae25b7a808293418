package failover

import "github.com/havip/havip/vip"

// Removals returns what the will of a Node removes.
func (n *Node) Removals() vip.Removals {
	n.will.mu.Lock()
	defer n.will.mu.Unlock()
	return n.will.removals
}
