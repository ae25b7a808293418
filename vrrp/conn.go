package vrrp

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/havip/havip/internal/quietlog"
)

// ListenConfig describes a [Conn].
type ListenConfig struct {
	// Interface is the name of the interface. Required.
	Interface string
	// IPv6 selects the family of the packets and of the virtual addresses.
	// Default: IPv4.
	IPv6 bool
	// Open, if set, takes the place of the raw sockets and of the interface,
	// for tests and for other ways to carry packets. It is called once for
	// protocol 112, and once for 51 before the first router with AuthAH runs.
	// The link then counts as up, and every router needs Config.Source.
	Open func(protocol uint8) (PacketConn, error)
	// Virtual, if set, reports whether an address of the interface goes from
	// host to host although none of the Conn's routers lists it: such as those
	// that are left out of advertisements. It is never sent from. It may be
	// called from any goroutine. See vip's Namespace.Virtual.
	Virtual func(netip.Addr) bool
	// Logger receives what happens, from a goroutine that nothing waits for.
	// Default: silent.
	Logger *slog.Logger
}

// Conn sends and receives the advertisements of all the virtual routers of one
// address family on one interface, up to 255.
//
// Its one goroutine receives in batches, runs the routers' machines and keeps
// their timers, so that a router costs no goroutine and a packet no
// allocation. Another watches the interface: while it is missing, down, without
// an address to send from or of a kind that cannot carry a router, its routers
// have a fault. When an interface comes, or was deleted and comes back, the Conn
// opens its sockets, and whenever it or its addresses were away they join the
// group again. With IPv4 a third hears the owners of addresses, see ownerReader.
type Conn struct {
	name    string
	family  family
	isMoved func(netip.Addr) bool // ListenConfig.Virtual
	log     *slog.Logger
	net     network
	base    time.Time     // what deadlines count from
	done    chan struct{} // closed by Close
	wg      sync.WaitGroup

	reserved reservations

	// Locks are taken in this order: looking, for one look at the interface at a time;
	// mu, for what follows here, the routers and their machines; Group.mu, for the
	// machines of its members, which may be on several Conns; loop.wakeMu, for the
	// loop's socket and its wake-ups. The locks of worker and reservations guard
	// nothing else, and no other lock is taken under them. No lock is held while a
	// Handler or an OnTransition is called, except that mu is for Lessee.Lapsed.
	looking  sync.Mutex
	mu       sync.Mutex
	nif      netif
	bound    binding // what the sockets are for
	broken   string  // why there are no sockets, or ""
	doubtful bool    // the sockets may hear nothing
	retrying int     // goroutines that look again because something failed
	closed   bool
	routers  [256]*Router // by VRID, those that run
	virtual  map[netip.Addr]users
	loops    []*loop      // of protocol 112, and 51 if it was needed
	frames   packetWriter // for Config.VirtualMAC, or nil
	owners   ownerReader  // or nil
	counters Counters
	foreign  time.Time // the last look at an advertisement for a VRID that no router here has
}

// Listen opens a Conn on an interface in the network namespace of the calling
// thread, where it stays. Raw sockets need root or CAP_NET_RAW.
//
// An interface that does not exist yet, as one that a VPN makes, or on which no
// socket can be opened for now, is no error: its routers have a fault until that
// has changed. [Conn.Check] tells whoever would rather not begin.
func Listen(cfg ListenConfig) (*Conn, error) {
	c, err := listen(cfg)
	if err != nil {
		return nil, fmt.Errorf("vrrp: interface %s: %w", cfg.Interface, err)
	}
	return c, nil
}

func listen(cfg ListenConfig) (*Conn, error) {
	if cfg.Interface == "" {
		return nil, errors.New("no name is given")
	}
	if cfg.Open != nil {
		return listenOn(cfg, &customNetwork{name: cfg.Interface, f: cfg.Open, done: make(chan struct{})})
	}
	fam := familyIPv4
	if cfg.IPv6 {
		fam = familyIPv6
	}
	n, err := openNetwork(cfg.Interface, fam)
	if err != nil {
		return nil, err
	}
	return listenOn(cfg, n)
}

// listenOn is listen with n, which the Conn closes.
func listenOn(cfg ListenConfig, n network) (*Conn, error) {
	c := &Conn{
		name:    cfg.Interface,
		family:  familyIPv4,
		isMoved: cfg.Virtual,
		log:     quietlog.Limited(cfg.Logger, nil),
		net:     n,
		base:    time.Now(),
		done:    make(chan struct{}),
		virtual: make(map[netip.Addr]users),
	}
	if cfg.IPv6 {
		c.family = familyIPv6
	}
	var err, failed error
	if c.nif, err = c.look(); err == nil {
		c.loops = []*loop{newLoop(c, newNoSocket(), protocolVRRP)}
		// What is unlikely to pass by itself would be the fault of all routers.
		if err = c.restore(&netif{}, false); !c.nif.unknown && !errors.Is(err, fs.ErrPermission) {
			failed, err = err, nil
		}
	}
	if err != nil {
		n.interrupt()
		n.close()
		return nil, err
	}
	c.wg.Go(c.loops[0].run)
	c.wg.Go(func() { c.watch(failed) })
	return c, nil
}

// open starts the loop of an IP protocol, unless there is one. c.mu is held.
func (c *Conn) open(protocol uint8) (*loop, error) {
	for _, l := range c.loops {
		if l.protocol == protocol {
			return l, nil
		}
	}
	var pc PacketConn = newNoSocket()
	if c.opens() {
		var err error
		if pc, err = c.net.open(&c.nif, protocol); err != nil {
			return nil, err
		}
	}
	l := newLoop(c, pc, protocol)
	c.loops = append(c.loops, l)
	c.wg.Go(l.run)
	return l, nil
}

// openOwners makes the Conn hear the owners of addresses. It gets by without.
// c.mu is held, or nobody else has c.
func (c *Conn) openOwners() {
	if c.owners != nil {
		c.owners.Close()
	}
	var err error
	if c.owners, err = c.net.owners(&c.nif); err != nil {
		c.owners = nil
		c.log.Warn("owners of virtual addresses may not be heard", "interface", c.name, "err", err)
	}
	if o := c.owners; o != nil {
		c.wg.Go(func() { c.hearOwners(o) })
	}
}

// Close ends the routers as cancelling their contexts would, except that their
// Run returns [ErrClosed]. Close returns when the Conn's goroutines have ended.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.done)
	for _, r := range c.routers {
		if r != nil {
			r.stop(nil, fmt.Errorf("vrrp: %s: interface %s: %w", r.name, c.name, ErrClosed))
		}
	}
	var errs []error
	for _, l := range c.loops {
		errs = append(errs, l.pc.Close())
	}
	if c.frames != nil {
		errs = append(errs, c.frames.Close())
	}
	if c.owners != nil {
		errs = append(errs, c.owners.Close())
	}
	c.net.interrupt()
	c.mu.Unlock()
	c.wg.Wait()
	c.looking.Lock() // by a router that is late
	defer c.looking.Unlock()
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	c.net.close()
	return errors.Join(errs...)
}

// Counters returns what the Conn counted that belongs to none of its routers:
// packets for a VRID that none has, or with no VRRP header at all.
func (c *Conn) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters.snapshot()
}

// attach makes r one of the routers and returns its loop. c.mu is held.
func (c *Conn) attach(r *Router) (*loop, error) {
	vrid := r.cfg.VRID
	switch {
	case c.closed:
		return nil, fmt.Errorf("interface %s: %w", c.name, ErrClosed)
	case c.routers[vrid] != nil:
		return nil, fmt.Errorf("interface %s: VRID %d is %w", c.name, vrid, &takenError{by: "router " + c.routers[vrid].name})
	}
	protocol := uint8(protocolVRRP)
	if r.cfg.Auth.Type == AuthAH {
		protocol = protocolAH
	}
	l, err := c.open(protocol)
	if err == nil && r.cfg.VirtualMAC && c.frames == nil {
		if c.frames = newNoSocket(); c.opens() {
			if err = c.replaceFrames(); err != nil {
				c.frames = nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", c.name, err)
	}
	c.routers[vrid] = r
	c.count(&r.cfg, 1)
	return l, nil
}

// carries tells whether cfg's advertisements can leave from an interface of this
// kind. c.mu is held.
func (c *Conn) carries(cfg *Config) error {
	switch {
	case c.nif.index == 0: // nobody knows
	case len(cfg.Peers) == 0 && !c.nif.multicast:
		return fmt.Errorf("interface %s has no multicast: want unicast peers", c.name)
	case cfg.VirtualMAC && !c.nif.ethernet:
		return fmt.Errorf("interface %s is no Ethernet one: a virtual MAC needs one", c.name)
	}
	return nil
}

// detach forgets r. c.mu is held.
func (c *Conn) detach(r *Router) {
	c.routers[r.cfg.VRID] = nil
	r.loop.deadlines.remove(r)
	c.count(&r.cfg, -1)
}

// count adds n routers, 1 or -1, to the users of cfg's addresses. c.mu is held.
func (c *Conn) count(cfg *Config, n int) {
	for _, a := range cfg.Addresses {
		u := c.virtual[a]
		if u.all += n; cfg.moves(a) {
			u.moving += n
		}
		if c.virtual[a] = u; u.all == 0 {
			delete(c.virtual, a)
		}
	}
}

// refresh gives the routers what the interface has to say. c.mu is held.
func (c *Conn) refresh() {
	for _, r := range c.routers {
		if r != nil {
			r.setLink(c.linkState(&r.cfg, r.home, r.source))
		}
	}
}

// linkState returns the address for cfg's router to send from, or a fault. See
// netif.source. c.mu is held.
func (c *Conn) linkState(cfg *Config, home, current netip.Addr) (source netip.Addr, fault string) {
	if fault = c.nif.fault(); fault == "" {
		fault = c.broken
	}
	source, err := c.nif.source(cfg, home, current, c.virtual)
	if unfit := c.carries(cfg); unfit != nil {
		err = unfit
	}
	if fault == "" && err != nil {
		fault = err.Error()
	}
	return source, fault
}

// Check reports which fault a Router of cfg would have now because of the
// interface, if it began: that is missing, say, down, or without an address to send
// from. The Router may run all the same: the fault ends with its reason. Of a Conn
// that was closed it is [ErrClosed].
func (c *Conn) Check(cfg Config) error {
	cfg, err := cfg.complete()
	if err != nil {
		return err
	}
	c.update()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("vrrp: %s: interface %s: %w", cfg.Name, c.name, ErrClosed)
	}
	c.count(&cfg, 1)
	defer c.count(&cfg, -1)
	if _, fault := c.linkState(&cfg, netip.Addr{}, netip.Addr{}); fault != "" {
		return fmt.Errorf("vrrp: %s: %s", cfg.Name, fault)
	}
	return nil
}

// retryLink is for how long to wait before another look at an interface that
// could not be looked at, or on which no socket could be opened.
const retryLink = time.Second

// watch follows the interface until the Conn is closed. err is what failed last.
func (c *Conn) watch(err error) {
	for c.lookAgain(err) {
		var lost bool
		if lost, err = c.net.wait(c.concerns); err == nil {
			err = c.relook(lost)
		}
	}
}

// lookAgain looks again until that succeeds, and returns false when the Conn is
// closed. Whatever err is, events may have been lost.
func (c *Conn) lookAgain(err error) bool {
	if err == nil {
		return true
	}
	c.mu.Lock()
	c.retrying++
	c.mu.Unlock()
	for said := ""; err != nil; {
		select {
		case <-c.done:
			return false
		default:
		}
		if text := err.Error(); text != said {
			said = text
			c.log.Warn("watching the interface", "interface", c.name, "err", text)
		}
		select {
		case <-c.done:
			return false
		case <-time.After(retryLink):
		}
		if err = c.relook(true); err == nil {
			err = c.retried()
		}
	}
	return true
}

// retried ends trying again, unless what failed has failed once more meanwhile.
func (c *Conn) retried() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != "" {
		return errors.New(c.broken)
	}
	c.retrying--
	return nil
}

// update looks at the interface for a router that begins, or goes on with another
// configuration: nobody may have been interested in its source when that came.
func (c *Conn) update() {
	if err := c.relook(false); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if tried := c.broken != "" && c.retrying > 0; !c.closed && !tried {
			c.wg.Go(func() { c.lookAgain(err) })
		}
	}
}

// look asks for the interface. c.mu is not held: both may take their time.
func (c *Conn) look() (netif, error) {
	nif, err := c.net.look()
	if c.isMoved != nil {
		for i := range nif.addrs {
			nif.addrs[i].virtual = c.isMoved(nif.addrs[i].addr)
		}
	}
	return nif, err
}

// relook looks at the interface and acts on what has changed. lost says that
// something may have been away meanwhile.
func (c *Conn) relook(lost bool) error {
	c.looking.Lock()
	defer c.looking.Unlock()
	select {
	case <-c.done:
		return ErrClosed
	default:
	}
	nif, err := c.look()
	if err != nil {
		return err
	}
	c.mu.Lock()
	before := c.nif
	if !c.closed && before.index != 0 && nif.index != 0 && nif.index != before.index {
		// Nobody there knows of this router: the old link is left first.
		c.broken = fmt.Sprintf("link %s is another one now", c.name)
		c.refresh()
	}
	c.nif = nif
	err = c.restore(&before, lost)
	c.refresh()
	c.mu.Unlock()
	return err
}

// concerns tells whether an event may change anything here. An address that
// comes does not while every router has its own: the holder of many virtual
// addresses renews them all the time. One of the host's that goes does always:
// it may be the sign that a group was forgotten.
func (c *Conn) concerns(e linkEvent) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.addr.IsValid() {
		return e.index == c.nif.index || e.name == c.name
	}
	if e.index != c.nif.index {
		return false
	}
	if e.gone && slices.ContainsFunc(c.nif.addrs, func(a ifaddr) bool {
		return a.addr == e.addr && !a.virtual && c.virtual[a.addr].all == 0
	}) {
		return true
	}
	return slices.ContainsFunc(c.routers[:], func(r *Router) bool {
		return r != nil && (r.sourceless || r.source == e.addr || r.home == e.addr)
	})
}
