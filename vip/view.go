package vip

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// view is what the kernel has shown of what the addresses depend on.
type view struct {
	links    map[string]link     // by name, as last seen
	occupied bool                // our macvlan has an address that is not ours
	seen     map[target]bool     // where the addresses were looked for the last time
	spared   map[assigned]string // why Takeover leaves an unmarked address; empty: it does not
}

// places says where the addresses belong, of those whose interface exists.
func (v *view) places(addresses []Address) []target {
	var out []target
	for _, a := range addresses {
		if l, ok := v.links[a.Interface]; ok {
			out = append(out, target{Address: a, index: l.index})
		}
	}
	return out
}

// foreign reports whether a sighting is another host's, and on which interface.
func (v *view) foreign(cfg Config, mv macvlan, s sighting) (ifname string, foreign bool) {
	for _, a := range cfg.Addresses {
		if a.Prefix.Addr() != s.addr {
			continue
		}
		l := v.links[a.Interface]
		if l.index == s.index {
			return l.name, !bytes.Equal(s.mac, l.mac)
		}
		// Another holder has the virtual MAC too, and a macvlan does not hear
		// what comes from its own address. Its parent hears it, and what the
		// macvlan itself sends it does not.
		if parent := v.links[cfg.Interface]; mv.is(a.Interface) && parent.index == s.index {
			return parent.name, bytes.Equal(s.mac, l.mac)
		}
	}
	return "", false
}

// questions says where to ask for addresses, of those whose interface exists.
func (v *view) questions(mv macvlan, addresses []Address) []question {
	var out []question
	for _, a := range addresses {
		name := a.Interface
		if mv.is(name) {
			// In its own name: from the virtual MAC it would draw to this host
			// what is meant for the one that has it, the answer included.
			name = mv.parent
		}
		if l, ok := v.links[name]; ok && l.ethernet && l.up {
			out = append(out, question{a.Prefix.Addr(), l})
		}
	}
	return out
}

// faults returns which interfaces are down, of whose end the kernel tells, and
// what else is wrong with them. The macvlan is down while the addresses are not held,
// and its parent has the link.
func (v *view) faults(cfg Config, mv macvlan, absent map[string]error) (down, other []string) {
	for _, name := range cfg.interfaces() {
		l, err := v.links[name], absent[name]
		switch {
		case err != nil && !errors.Is(err, ErrNoInterface):
			other = append(other, "addresses: "+err.Error())
		case mv.is(name):
		case err != nil:
			down = append(down, fmt.Sprintf("link %s missing", name))
		case !l.up:
			down = append(down, fmt.Sprintf("link %s down", name))
		}
		if err == nil && l.no6 && cfg.needs6(name) {
			other = append(other, fmt.Sprintf("IPv6 disabled on %s", name))
		}
	}
	return down, other
}

const (
	// spacing bounds how often the addresses are looked at, so that a fight
	// with another program over one of them costs little.
	spacing = 10 * time.Millisecond
	// patrol is how often they are looked at although nothing seems to have
	// happened.
	patrol = 30 * time.Second
	// again is when what failed is tried again.
	again = time.Second
)

// looks says when the addresses are looked at. It reads no clock.
type looks struct {
	last time.Time
	next time.Time // if nothing happens
}

// begun takes note of a look.
func (l *looks) begun(now time.Time) { l.last, l.next = now, now.Add(patrol) }

// soon has the addresses looked at again although nothing may happen.
func (l *looks) soon() { l.next = l.last.Add(again) }

// due returns when to look; dirty: something has happened.
func (l looks) due(dirty bool) time.Time {
	if dirty {
		return l.last.Add(spacing)
	}
	return l.next
}

// calls are made by goroutines of their own, which the Manager does not wait for, but
// Run does at its end.
type calls struct {
	lost, conflict *quietlog.Calls // of OnLost and OnConflict
	asides         *quietlog.Calls // for lines that take a question
}

func newCalls() calls {
	return calls{quietlog.NewCalls(), quietlog.NewCalls(), quietlog.NewCalls()}
}

func (c calls) wait() {
	c.asides.Wait()
	c.conflict.Wait()
	c.lost.Wait()
}
