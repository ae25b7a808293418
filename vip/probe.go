package vip

import (
	"bytes"
	"cmp"
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
	if err := n.ask(questions); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d / 2):
	}
	half, cancel := context.WithTimeout(ctx, d/2)
	defer cancel()
	q, mac, err := n.findHolder(half, questions)
	if err == nil && q.addr.IsValid() {
		err = fmt.Errorf("vip: %s: %v is at %v: %w", q.link.name, q.addr, mac, ErrInUse)
	}
	return cmp.Or(err, ctx.Err())
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
	_, mac, _ := m.ns.findHolder(ctx, []question{{addr.WithZone(""), l}})
	return mac
}

// findHolder asks the link for the addresses until another host answers or ctx ends. It
// returns the question that was answered, and the host's hardware address, if it said.
func (n *Namespace) findHolder(ctx context.Context, questions []question) (answered question, mac net.HardwareAddr, err error) {
	answers := make(chan sighting, 16)
	n.mu.Lock()
	for _, q := range questions {
		n.asking[q.addr] = append(n.asking[q.addr], answers)
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, q := range questions {
			removeFrom(n.asking, q.addr, answers)
		}
	}()
	if err := n.ask(questions); err != nil {
		return question{}, nil, err
	}
	for {
		select {
		case <-ctx.Done():
			return question{}, nil, nil
		case s := <-answers:
			for _, q := range questions {
				if q.addr == s.addr && q.link.index == s.index && !bytes.Equal(s.mac, q.link.mac) {
					return q, s.mac, nil
				}
			}
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
