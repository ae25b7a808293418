package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/havip/havip/internal/lab"
)

// softCase is a planned end of the node that has the address.
type softCase struct {
	peers    [2]peer
	kind     softKind
	interval time.Duration
	way      []string // the command that makes it leave; none: SIGTERM
	exe      string   // havip
}

// softKind is how the two nodes advertise.
type softKind struct {
	name    string
	version uint8
	auth    string
	unicast bool
	stays   bool // nobody preempts
}

var softKinds = []softKind{
	{name: "v3 multicast", version: 3},
	{name: "v2 unicast nopreempt", version: 2, auth: "pass", unicast: true, stays: true},
}

// softResult is what a planned hand-over came to.
type softResult struct {
	advert  time.Duration // from priority 0 to the successor's advertisement
	silence time.Duration // in which the client had no answer
	nobody  time.Duration // in which no node had the address
	both    time.Duration // in which both had it
	stream  time.Duration // from priority 0 to the last answer on a connection to LB-01
	broken  time.Duration // from priority 0 to the end of that connection
	late    time.Duration // by how much this machine was late
}

// TestSoftHandOver: a node that is stopped keeps the address until its successor, havip or
// Keepalived, advertises. The client notices next to nothing, established connections go on
// until then, and the neighbours know the new node. Keepalived's end is there for
// comparison: nobody has the address during the successor's skew time.
//
//	go test ./internal/e2e -run TestSoftHandOver -v
func TestSoftHandOver(t *testing.T) {
	lab.Need(t, "keepalived")
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	h := havipPeer(t)
	var table strings.Builder
	table.WriteString("| leaves, successor | how | kind | interval | successor's advertisement | client without answer | nobody / both have it | connection answered until / ended after |\n|---|---|---|---|---|---|---|---|\n")
	for _, peers := range [][2]peer{{h, h}, {h, keepalivedPeer}, {keepalivedPeer, h}} {
		for _, kind := range softKinds {
			for _, interval := range allIntervals {
				if kind.version == 2 && interval != time.Second || peers[0].name != h.name && interval != time.Second {
					continue
				}
				ways := [][]string{nil}
				if interval == time.Second && peers[0].name == h.name {
					ways = append(ways, []string{"resign", "VI_1"}, []string{"maintenance", "on"})
				}
				for _, way := range ways {
					c := softCase{peers, kind, interval, way, havip(t)}
					r, err := c.try(t)
					if err != nil {
						t.Errorf("%v: %v", c, err)
						continue
					}
					ms := func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
					fmt.Fprintf(&table, "| %s, %s | %s | %s | %v | %s | %s | %s / %s | %s / %s |\n", peers[0].name, peers[1].name, c.how(), kind.name, interval,
						ms(r.advert), ms(r.silence), ms(r.nobody), ms(r.both), ms(r.stream), ms(r.broken))
				}
			}
		}
	}
	t.Logf("a planned hand-over:\n%s", &table)
}

func (c softCase) String() string {
	return fmt.Sprintf("%s to %s, %s, %s, %v", c.peers[0].name, c.peers[1].name, c.how(), c.kind.name, c.interval)
}

// how it is made to leave.
func (c softCase) how() string {
	if len(c.way) == 0 {
		return "SIGTERM"
	}
	return c.way[0]
}

// try does it, and again if the machine was too busy for it.
func (c softCase) try(t *testing.T) (r softResult, err error) {
	for range doubtfulTries {
		if r, err = c.run(t.TempDir()); errors.Is(err, errDoubtful) {
			t.Logf("%v: %v", c, err)
			continue
		} else if err != nil {
			return r, err
		}
		if err = c.judge(r); err == nil && r.late < c.interval {
			break
		}
		t.Logf("%v: this machine was late by %v: %v", c, r.late, err)
	}
	return r, err
}

// judge finds what is wrong, not what is slow. LB-02, of priority 100, has a skew time of
// 609 ms at an interval of one second.
func (c softCase) judge(r softResult) error {
	const limit = 400 * time.Millisecond
	switch {
	case c.peers[0].name == keepalivedPeer.name:
		return nil // it is what it is
	case r.both > limit+r.late:
		return fmt.Errorf("both had the address for %v", r.both)
	case r.silence > limit+r.late || r.nobody > limit+r.late:
		return fmt.Errorf("no answer for %v, nobody had the address for %v", r.silence, r.nobody)
	case r.stream < r.advert-limit-r.late:
		return fmt.Errorf("an established connection was answered until %v after priority 0, the successor came after %v", r.stream, r.advert)
	}
	return nil
}

// run measures one hand-over. The files of the programs are in dir.
func (c softCase) run(dir string) (r softResult, err error) {
	if c.kind.stays {
		c.peers = [2]peer{staying(c.peers[0]), staying(c.peers[1])}
	}
	if len(c.way) > 0 {
		c.peers[0] = reachable(c.peers[0])
	}
	tr := &trial{interval: c.interval, peers: c.peers, cause: &cause{}, fine: true, edit: func(r *virtualRouter) {
		r.version, r.auth, r.unicast = c.kind.version, c.kind.auth, c.kind.unicast
	}}
	s := &stage{trial: tr, ns: netns.None()}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w%s", err, s.outputs())
		}
		if failed := s.close(); err == nil {
			err = failed
		}
	}()
	if err := s.open(dir); err != nil {
		return r, err
	}
	lan, err := s.lab.Segment("lan")
	if err != nil {
		return r, err
	}
	wire, err := lan.Capture(lab.Protocol(112))
	if err != nil {
		return r, err
	}
	stream, err := c.settle(s, wire)
	if err != nil {
		return r, err
	}
	s.from = time.Now()
	if err := c.leave(s); err != nil {
		return r, err
	}
	if err := s.await("LB-02 has the address", lb02); err != nil {
		return r, err
	}
	if len(c.way) > 0 {
		return c.measure(s, wire, stream)
	}
	if err := s.until("LB-01 ends", func() bool { return ended(s.nodes[0].cmd.Done()) }); err != nil {
		return r, err
	}
	return c.measure(s, wire, stream)
}

// leave tells LB-01 to go.
func (c softCase) leave(s *stage) error {
	n := s.nodes[0]
	if len(c.way) == 0 {
		return n.cmd.Signal(syscall.SIGTERM)
	}
	cmd := n.host.Command(c.exe, append(slices.Clone(c.way), "--socket", filepath.Join(n.dir, "s"))...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w: %s", cmd, err, cmd.Output())
	}
	return nil
}

// reachable is havip that takes commands.
func reachable(p peer) peer {
	configure := p.configure
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		argv, err := configure(n, routers, dir)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "havip.yaml")
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		admin := fmt.Sprintf("admin: {socket: %q, state: %q}\n", filepath.Join(dir, "s"), filepath.Join(dir, "state"))
		return argv, os.WriteFile(file, append([]byte(admin), b...), 0o600)
	}
	return p
}

// staying is a peer that preempts nobody.
func staying(p peer) peer {
	if p.name == keepalivedPeer.name {
		return edited(p, "keepalived.conf", "state BACKUP\n", "state BACKUP\n\tnopreempt\n")
	}
	return edited(p, "havip.yaml", "    interface: eth0\n", "    interface: eth0\n    preempt: false\n")
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// settle starts both nodes, waits until LB-01 has the address and LB-02 has heard that, and
// opens a connection to the address.
func (c softCase) settle(s *stage, wire *lab.Capture) (*stream, error) {
	for i, n := range s.nodes {
		if err := s.start(i); err != nil {
			return nil, err
		}
		if err := s.until(fmt.Sprintf("LB-%02d is there", i+1), func() bool { return n.transitions() > 0 }); err != nil {
			return nil, err
		}
	}
	then := time.Now()
	err := s.until("LB-01 advertises", func() bool {
		list := softAdverts(s, wire, then)
		by, _ := s.witness.now()
		n := len(list)
		return by == lb01 && n > 2 && list[n-1].side == 0 && list[n-2].side == 0
	})
	if err != nil {
		return nil, err
	}
	for _, n := range s.nodes {
		ln, err := n.host.Listen("tcp", ":7")
		if err != nil {
			return nil, err
		}
		s.cleanup = append(s.cleanup, ln.Close)
		go echo(ln, byte(n.side))
	}
	return openStream(s)
}

// softAdverts returns the advertisements on the wire since then.
func softAdverts(s *stage, wire *lab.Capture, then time.Time) (list []advert) {
	for _, f := range wire.Packets() {
		src, _, _, b, ok := f.IP()
		if ok && len(b) > 2 && f.Time.After(then) {
			list = append(list, advert{f.Time, s.witness.side(src), b[2]})
		}
	}
	return list
}

// measure says what came of it, and is an error if that breaks the protocol.
func (c softCase) measure(s *stage, wire *lab.Capture, stream *stream) (r softResult, err error) {
	if err := s.until("the connection ends", stream.ended); err != nil {
		return r, err
	}
	var list []advert // a packet may be captured a moment after it had its effect
	if err := s.until("LB-02 advertises", func() bool {
		list = softAdverts(s, wire, s.from)
		return slices.ContainsFunc(list, func(a advert) bool { return a.side == 1 })
	}); err != nil {
		return r, err
	}
	left := slices.IndexFunc(list, func(a advert) bool { return a.side == 0 && a.priority == 0 })
	next := slices.IndexFunc(list, func(a advert) bool { return a.side == 1 })
	if left < 0 || next < left {
		return r, fmt.Errorf("%w: no priority 0 before LB-02's first advertisement: %v", errDoubtful, list)
	}
	if i := slices.IndexFunc(list[left+1:], func(a advert) bool { return a.side == 0 }); i >= 0 {
		return r, fmt.Errorf("LB-01 advertises after its priority 0: %v", list)
	}
	zero := list[left].at
	r.advert = list[next].at.Sub(zero)
	r.silence, r.both, r.nobody = s.witness.silence(s.from), s.witness.spent(s.from, both), s.witness.spent(s.from, nobody)
	last, broken := stream.result()
	r.stream, r.broken = last.Sub(zero), broken.Sub(zero)
	r.late = s.witness.stalled(s.from, time.Now())
	return r, s.until("the client knows LB-02 by its hardware address", func() bool {
		mac, err := neighbour(s.client, s.vip)
		want, found := s.nodes[1].host.Netlink().LinkByName("eth0")
		return err == nil && found == nil && bytes.Equal(mac, want.Attrs().HardwareAddr)
	})
}

// neighbour returns the hardware address in a host's neighbour table.
func neighbour(h *lab.Host, addr netip.Addr) (net.HardwareAddr, error) {
	list, err := h.Netlink().NeighList(0, syscall.AF_INET)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == addr {
			return n.HardwareAddr, nil
		}
	}
	return nil, fmt.Errorf("no entry for %v", addr)
}

// echo says on each connection which node it is, and sends back what comes.
func echo(ln net.Listener, side byte) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.Write([]byte{side})
			io.Copy(conn, conn)
		}()
	}
}

// stream asks for an answer each millisecond over one connection.
type stream struct {
	mu     sync.Mutex
	last   time.Time // the latest answer
	broken time.Time // when the connection ended; zero: it has not
}

// openStream connects the client to the address. At an interval of 10 ms LB-02 may have the
// address by then for a moment, if LB-01 did not run for 36 ms. If LB-01 were told to go
// in that moment, a connection to LB-02 would never end.
func openStream(s *stage) (*stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := s.client.DialContext(ctx, "tcp", netip.AddrPortFrom(s.vip, 7).String())
	if err != nil {
		return nil, err
	}
	s.cleanup = append(s.cleanup, conn.Close)
	b := make([]byte, 1)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 0 {
		return nil, fmt.Errorf("%w: the connection is not to LB-01: LB-%02d answers, error %v", errDoubtful, b[0]+1, err)
	}
	x := &stream{}
	go func() {
		for {
			// What is lost is sent again by the kernel, to whoever has the address by then.
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, err := conn.Write(b)
			if err == nil {
				_, err = io.ReadFull(conn, b)
			}
			x.mu.Lock()
			if now := time.Now(); err == nil {
				x.last = now
			} else {
				x.broken = now
			}
			x.mu.Unlock()
			if err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return x, s.until("the connection is answered", func() bool { last, _ := x.result(); return !last.IsZero() })
}

func (x *stream) result() (last, broken time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last, x.broken
}

func (x *stream) ended() bool { _, broken := x.result(); return !broken.IsZero() }
