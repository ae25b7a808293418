package vrrp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/retry"
)

// ListenConfig describes a [Conn].
type ListenConfig struct {
	// Interface is the name of the interface. Required.
	Interface string
	// IPv6 selects the family of the packets and of the virtual addresses.
	// Default: IPv4.
	IPv6 bool
	// Open, if set, opens connections that take the place of raw sockets on an
	// interface: for tests, see package vrrptest, and for other ways to carry
	// packets. Open is called once for protocol 112, and once for 51 before the
	// first router with AuthAH runs. The link counts as up then, and every router
	// needs Config.Source.
	Open func(protocol uint8) (PacketConn, error)
	// Virtual, if set, reports whether an address of the interface is a virtual one that no
	// router of the Conn lists, such as an address that is left out of advertisements. No
	// router sends from a virtual address. Virtual may be called from any goroutine. See
	// vip's Namespace.Virtual.
	Virtual func(netip.Addr) bool
	// Logger receives what happens, from a goroutine that nothing waits for.
	// Default: silent.
	Logger *slog.Logger
}

// Conn sends and receives the advertisements of all the virtual routers of one
// address family on one interface, up to 255.
//
// One goroutine receives in batches, runs the routers' machines and keeps their
// timers: a router costs no goroutine, and a packet no allocation. A second goroutine
// watches the interface. Routers have a fault while their interface is missing, down,
// without an address to send from, or of a kind that cannot carry them. When the
// interface comes, or comes back, the Conn opens its sockets; when the interface or its
// addresses were away, the sockets join the group again. With IPv4 a third goroutine
// hears the owners of addresses that this host has too: the kernel keeps their packets
// from other sockets.
type Conn struct {
	name    string
	family  family
	isMoved func(netip.Addr) bool // ListenConfig.Virtual
	log     *slog.Logger
	net     network
	base    time.Time       // what deadlines count from
	life    context.Context // ended by Close, with mu held
	end     context.CancelFunc
	wg      sync.WaitGroup

	reserved reservations

	// The locks of this package are taken in this order. looking admits one look at the
	// interface at a time. mu guards the fields below, the routers and their machines.
	// Group.mu guards the machines of a group's members, which may be on several Conns.
	// loop.wakeMu guards a loop's socket and wake-ups. The locks of worker and of
	// reservations guard those alone, and no other lock is taken under them. No lock is
	// held while a Handler or an OnTransition is called, except for Lessee.Lapsed, which is
	// called with mu held.
	looking  sync.Mutex
	mu       sync.Mutex
	nif      netif
	bound    binding      // of the sockets
	broken   string       // why there are no sockets, or ""
	doubtful bool         // the sockets may hear nothing
	routers  [256]*Router // by VRID, those that run
	virtual  map[netip.Addr]users
	loops    []*loop      // of protocol 112, and 51 if it was needed
	frames   packetWriter // for Config.VirtualMAC, or nil
	owners   ownerReader  // or nil
	counters Counters
	foreign  time.Time // the last look at an advertisement for a VRID without a router
}

// Listen opens a Conn on an interface in the network namespace of the calling
// thread, where it stays. Raw sockets need root or CAP_NET_RAW.
//
// An interface may be missing, such as one that a VPN makes, or refuse sockets for now:
// that is no error, but a fault of its routers while it lasts. [Conn.Check] returns such
// a fault beforehand.
func Listen(cfg ListenConfig) (c *Conn, err error) {
	var n network
	switch {
	case cfg.Interface == "":
		err = errors.New("no name: want one")
	case cfg.Open != nil:
		n = &customNetwork{name: cfg.Interface, f: cfg.Open, done: make(chan struct{})}
	default:
		n, err = openNetwork(cfg.Interface, familyOf(cfg.IPv6))
	}
	if err == nil {
		c, err = newConn(cfg, n)
	}
	if err != nil {
		return nil, fmt.Errorf("vrrp: interface %s: %w", cfg.Interface, err)
	}
	return c, nil
}

// newConn makes a Conn on a network, which the Conn closes.
func newConn(cfg ListenConfig, n network) (*Conn, error) {
	c := &Conn{
		name:    cfg.Interface,
		family:  familyOf(cfg.IPv6),
		isMoved: cfg.Virtual,
		log:     quietlog.Limited(cfg.Logger, nil),
		net:     n,
		base:    time.Now(),
		virtual: make(map[netip.Addr]users),
	}
	c.life, c.end = context.WithCancel(context.Background())
	var err, failed error
	if c.nif, err = c.lookUpInterface(); err == nil {
		c.loops = []*loop{newLoop(c, newNoSocket(), protocolVRRP)}
		// Missing permission is an error and no fault: it will not pass by itself.
		if err = c.restoreSockets(&netif{}, false); !c.nif.unknown && !errors.Is(err, fs.ErrPermission) {
			failed, err = err, nil
		}
	}
	if err != nil {
		n.close()
		return nil, err
	}
	c.wg.Go(c.loops[0].run)
	c.wg.Go(func() { c.watchInterface(failed) })
	return c, nil
}

// openLoop starts the loop of an IP protocol, unless there is one. c.mu is held.
func (c *Conn) openLoop(protocol uint8) (*loop, error) {
	for _, l := range c.loops {
		if l.protocol == protocol {
			return l, nil
		}
	}
	var pc PacketConn = newNoSocket()
	if c.canOpen() {
		var err error
		if pc, err = c.net.openSocket(&c.nif, protocol); err != nil {
			return nil, err
		}
	}
	l := newLoop(c, pc, protocol)
	c.loops = append(c.loops, l)
	c.wg.Go(l.run)
	return l, nil
}

// Close ends the routers as cancelling their contexts would, except that their
// Run returns [ErrClosed]. Close returns when the Conn's goroutines have ended.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.isClosed() {
		c.mu.Unlock()
		return nil
	}
	c.end()
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
	c.mu.Unlock()
	c.closeNetwork()
	c.wg.Wait()
	return errors.Join(errs...)
}

// closeNetwork waits for a look and a reservation that are under way. All later ones find
// the Conn closed.
func (c *Conn) closeNetwork() {
	c.looking.Lock()
	defer c.looking.Unlock()
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	c.net.close()
}

// Counters returns what belongs to no router of the Conn: packets for a VRID that no
// router has, and packets without a VRRP header.
func (c *Conn) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters.snapshot()
}

// attachRouter makes r one of the routers and returns its loop. c.mu is held.
func (c *Conn) attachRouter(r *Router) (*loop, error) {
	vrid := r.cfg.VRID
	switch {
	case c.isClosed():
		return nil, fmt.Errorf("interface %s: %w", c.name, ErrClosed)
	case c.routers[vrid] != nil:
		return nil, fmt.Errorf("interface %s: VRID %d is %w", c.name, vrid, &takenError{by: "router " + c.routers[vrid].name})
	}
	protocol := uint8(protocolVRRP)
	if r.cfg.Auth.Type == AuthAH {
		protocol = protocolAH
	}
	l, err := c.openLoop(protocol)
	if err == nil && r.cfg.VirtualMAC && c.frames == nil {
		if c.frames = newNoSocket(); c.canOpen() {
			if err = c.replaceFrames(); err != nil {
				c.frames = nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", c.name, err)
	}
	c.routers[vrid] = r
	c.countAddresses(&r.cfg, 1)
	return l, nil
}

// carriesConfig returns why cfg's advertisements cannot leave from an interface of this
// kind, or nil. c.mu is held.
func (c *Conn) carriesConfig(cfg *Config) error {
	switch {
	case c.nif.index == 0: // not known yet
	case len(cfg.Peers) == 0 && !c.nif.multicast:
		return fmt.Errorf("interface %s has no multicast: want unicast peers", c.name)
	case cfg.VirtualMAC && !c.nif.ethernet:
		return fmt.Errorf("interface %s is no Ethernet one: a virtual MAC needs one", c.name)
	}
	return nil
}

// detachRouter forgets r. c.mu is held.
func (c *Conn) detachRouter(r *Router) {
	c.routers[r.cfg.VRID] = nil
	r.loop.deadlines[r.cfg.VRID] = never
	c.countAddresses(&r.cfg, -1)
}

// countAddresses adds n routers, 1 or -1, to the users of cfg's addresses. c.mu is held.
func (c *Conn) countAddresses(cfg *Config, n int) {
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

// reservations are the VRIDs that a Conn has reserved.
type reservations struct {
	mu   sync.Mutex
	list [256]reservation
}

// reservation is a VRID that one or more routers have reserved.
type reservation struct {
	users int
	lock  io.Closer // or nil
}

// takenError says who has the VRID on this host.
type takenError struct {
	by     string
	silent bool // the owner does not answer, and may be no router
}

func (e *takenError) Error() string { return "taken by " + e.by }

// Is makes every takenError an ErrVRIDInUse.
func (e *takenError) Is(target error) bool { return target == ErrVRIDInUse }

// A process that is about to end keeps its VRIDs for a moment.
const (
	reserveTime  = time.Second
	reserveEvery = 50 * time.Millisecond
)

// Reserve keeps other processes of this host, and other Conns, from running a router
// with the same VRID, address family and interface in the same network namespace,
// until release is called. Two such routers would both be Active, and each would remove
// the addresses that the other one adds. [Router.Run] reserves the router while it runs.
// Code that touches addresses before or after Run, as a vip.Manager does with those that
// a predecessor left, reserves the router first.
//
// Reserve waits a moment for a process that is about to end. If the VRID is taken after
// that, the error is [ErrVRIDInUse] and names the process that has the router. Reserve may
// be called again; until then a Group goes on without this router. Only processes of root
// and of this process's own user count.
func (r *Router) Reserve(ctx context.Context) (release func(), err error) {
	if ctx == nil {
		return nil, fmt.Errorf("vrrp: %s: no context", r.name)
	}
	r.conn.mu.Lock() // Reconfigure may be under way
	vrid := r.cfg.VRID
	r.conn.mu.Unlock()
	if release, err = r.conn.reserveVRID(ctx, vrid); err == nil {
		return release, nil
	}
	if ctx.Err() == nil {
		r.waitOutside()
	}
	return nil, fmt.Errorf("vrrp: %s: %w", r.name, err)
}

// reserveVRID reserves a VRID. Several routers of the Conn may share a reservation.
func (c *Conn) reserveVRID(ctx context.Context, vrid uint8) (release func(), err error) {
	for began := time.Now(); ; {
		last := time.Since(began) >= reserveTime
		err := c.tryReserveVRID(vrid, last)
		if err == nil {
			return sync.OnceFunc(func() { c.releaseVRID(vrid) }), nil
		}
		if errors.Is(err, ErrClosed) {
			return nil, fmt.Errorf("interface %s: %w", c.name, err)
		}
		if last {
			return nil, fmt.Errorf("interface %s: VRID %d (%v) is %w", c.name, vrid, c.family, err)
		}
		if !retry.Pause(ctx, reserveEvery) {
			return nil, ctx.Err()
		}
	}
}

// tryReserveVRID tries once. The router runs all the same if the host cannot tell who has
// the VRID, or if the owner does not answer until the last try.
func (c *Conn) tryReserveVRID(vrid uint8, last bool) error {
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	if c.isClosed() {
		return ErrClosed
	}
	r := &c.reserved.list[vrid]
	if r.users == 0 {
		lock, err := c.net.reserveVRID(vrid)
		if taken, ok := errors.AsType[*takenError](err); ok && !(last && taken.silent) {
			return err
		}
		if err != nil {
			c.log.Warn("another process may run the same virtual router", "interface", c.name, "vrid", vrid, "err", err)
		}
		r.lock = lock
	}
	r.users++
	return nil
}

func (c *Conn) releaseVRID(vrid uint8) {
	c.reserved.mu.Lock()
	defer c.reserved.mu.Unlock()
	r := &c.reserved.list[vrid]
	if r.users--; r.users == 0 && r.lock != nil {
		r.lock.Close()
		r.lock = nil
	}
}
