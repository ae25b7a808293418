package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// question is an address to ask for, and the interface to ask by.
type question struct {
	addr netip.Addr
	link link
}

// probe asks the link twice, during d, whether another host has one of the addresses or
// is about to take it (RFC 5227 §2.1.1). Only answers in the second half count: when
// addresses move, the previous holder may be a moment late in releasing them.
func (n *Namespace) probe(ctx context.Context, questions []question, d time.Duration) error {
	answers, ignore := n.hear(questions)
	defer ignore()
	half := time.NewTimer(d / 2)
	defer half.Stop()
	end := time.NewTimer(d)
	defer end.Stop()
	if err := n.ask(questions); err != nil {
		return err
	}
	for late := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-half.C:
			late = true
			if err := n.ask(questions); err != nil {
				return err
			}
		case s := <-answers:
			for _, q := range questions {
				if late && q.addr == s.addr && q.link.index == s.index && !bytes.Equal(s.mac, q.link.mac) {
					return fmt.Errorf("vip: %s: %v is at %v: %w", q.link.name, s.addr, s.mac, ErrInUse)
				}
			}
		case <-end.C:
			return nil
		}
	}
}

// HardwareAddr asks the link on Config.Interface, until ctx ends, which host has an address
// that is not held here. nil: no host has answered. A Router of package vrrp calls it, for
// its log, on the Manager that is its Handler.
func (m *Manager) HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr {
	m.mu.Lock()
	l, ok := m.links[m.cfg.Interface]
	m.mu.Unlock()
	if !ok || !l.ethernet || ctx == nil {
		return nil
	}
	addr = addr.WithZone("")
	questions := []question{{addr, l}}
	answers, ignore := m.ns.hear(questions)
	defer ignore()
	if m.ns.ask(questions) != nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-answers:
			if s.addr == addr && s.index == l.index && !bytes.Equal(s.mac, l.mac) {
				return s.mac
			}
		}
	}
}

// offer passes a sighting on, unless the queue is full: one of those in it will do.
func offer(to chan sighting, s sighting) {
	select {
	case to <- s:
	default:
	}
}

// hear returns a queue to which listen adds sightings of the addresses until ignore.
func (n *Namespace) hear(questions []question) (answers chan sighting, ignore func()) {
	answers = make(chan sighting, 16)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range questions {
		n.asking[q.addr] = append(n.asking[q.addr], answers)
	}
	return answers, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, q := range questions {
			removeFrom(n.asking, q.addr, answers)
		}
	}
}

// removeFrom removes v from the list of a key, and the key with its last value.
func removeFrom[K, V comparable](lists map[K][]V, key K, v V) {
	left := slices.DeleteFunc(lists[key], func(o V) bool { return o == v })
	if lists[key] = left; len(left) == 0 {
		delete(lists, key)
	}
}

// ask sends one probe for each address.
func (n *Namespace) ask(questions []question) error {
	for _, q := range questions {
		if err := n.kernel.send(q.link.index, probeFrame(q.addr, q.link.mac)); err != nil {
			return err
		}
	}
	return nil
}
