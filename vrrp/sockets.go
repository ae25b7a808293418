package vrrp

import (
	"errors"
	"fmt"
	"net"
)

// binding is what sockets depend on of an interface.
type binding struct {
	index     int // 0: of none
	multicast bool
}

func (n *netif) binding() binding { return binding{n.index, n.multicast} }

// noSocket takes the place of a socket while the interface for it is missing: it
// hears nothing, but keeps the time.
type noSocket struct{ net.Conn }

var (
	_ PacketConn   = noSocket{}
	_ packetWriter = noSocket{}
)

func newNoSocket() noSocket {
	c, _ := net.Pipe()
	return noSocket{c}
}

func (s noSocket) ReadBatch([]Packet) (int, error) {
	_, err := s.Read(make([]byte, 1))
	return 0, err
}

func (s noSocket) WriteBatch([]Packet) (int, error) { return 0, errors.New("no socket yet") }

// The methods below are called with c.mu held, or while nobody else has c.

// opens reports whether sockets can be opened. Otherwise restore will.
func (c *Conn) opens() bool { return c.nif.index != 0 && c.broken == "" }

// restore sees to it that the sockets hear and serve the interface as it is now.
func (c *Conn) restore(before *netif, lost bool) (err error) {
	c.doubtful = c.doubtful || lost || !before.serves()
	switch {
	case c.closed || c.nif.index == 0:
		return nil
	case c.nif.binding() != c.bound || c.broken != "":
		err = c.reopen()
	case c.doubtful && c.nif.serves():
		err = c.rejoin()
	default:
		return nil
	}
	c.broken = ""
	if c.doubtful = err != nil; err != nil {
		c.broken = fmt.Sprintf("link %s: %v", c.name, err)
	}
	return err
}

// rejoin makes the sockets members of the group again. The kernel forgets that
// with the interface's settings for a family: those for IPv6 go when the MTU is
// below 1280 bytes, and all when the interface goes to another network namespace.
// It may be back under the same index. To open others would not help: as the old
// ones are closed, the new ones lose their membership.
func (c *Conn) rejoin() error {
	for _, l := range c.loops {
		switch pc := l.pc.(type) {
		case noSocket: // of a router that came meanwhile
			if err := c.reopenLoop(l); err != nil {
				return err
			}
		case rejoiner:
			if err := pc.rejoin(); err != nil {
				return err
			}
		}
	}
	c.openOwners()
	if _, none := c.frames.(noSocket); none {
		return c.replaceFrames()
	}
	return nil
}

// reopen replaces the sockets: they are bound to an interface that is gone, or to
// none.
func (c *Conn) reopen() error {
	for _, l := range c.loops {
		if err := c.reopenLoop(l); err != nil {
			return err
		}
	}
	c.bound = c.nif.binding()
	c.openOwners()
	if c.frames == nil {
		return nil
	}
	return c.replaceFrames()
}

func (c *Conn) reopenLoop(l *loop) error {
	pc, err := c.net.open(&c.nif, l.protocol)
	if err != nil {
		return err
	}
	l.replace(pc)
	return nil
}

// replaceFrames replaces the socket that sends from virtual MACs.
func (c *Conn) replaceFrames() error {
	w, err := c.net.frames(&c.nif)
	if err != nil {
		return err
	}
	c.frames.Close()
	c.frames = w
	return nil
}
