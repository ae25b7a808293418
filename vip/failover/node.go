package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/retry"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
	"github.com/havip/havip/vrrp"
)

// Errors that a caller may want to tell apart, with errors.Is.
var (
	// ErrRunning: Run was called a second time.
	ErrRunning = errors.New("runs already")
	// ErrNotRunning: Run was not called, or waits until another process of this host
	// has left the virtual router.
	ErrNotRunning = errors.New("does not run yet")
	// ErrClosed: Run has returned, or Close was called.
	ErrClosed = errors.New("closed")
)

// Node is this host's part in a virtual router: the router, the addresses that it
// moves, and the last will of both. Its methods may be called from any goroutine.
type Node struct {
	log     *slog.Logger
	name    string
	router  *vrrp.Router
	manager *vip.Manager
	will    *will
	onRetry func(err error, pause time.Duration)
	undo    []func() // closes what New has opened

	// reserved is set once no other process of this host can run the virtual router.
	reserved atomic.Bool

	began   atomic.Bool     // Run or Close was called
	closing context.Context // ended by Close
	stop    context.CancelFunc
	ended   context.Context // ended when Run returns
	end     context.CancelFunc

	changing sync.Mutex // admits one Reconfigure at a time, and guards cfg from Run on
	cfg      Config
}

// Run is New and [Node.Run] for a Node that needs no other method. It works in the
// network namespace of the calling thread.
func Run(ctx context.Context, cfg Config) error {
	n, err := New(cfg)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// New makes a Node and opens its sockets, in the network namespace of the calling
// thread. It changes nothing there; [Node.Run] does. An interface that does not exist
// yet is no error: the Node takes part in the election once it is there. See [Check].
func New(cfg Config) (*Node, error) {
	n := &Node{}
	n.closing, n.stop = context.WithCancel(context.Background())
	n.ended, n.end = context.WithCancel(context.Background())
	err := n.open(cfg)
	if err == nil {
		err = n.connect()
	}
	if err != nil {
		n.closeParts()
		return nil, err
	}
	return n, nil
}

// Check returns what would keep a Node of cfg from taking part in the election now: a fault
// of cfg, an interface that is missing, down or without an address to send from, an address
// that is in use already (an error that wraps [vip.ErrInUse]). Check changes nothing. A
// Node can be run in spite of a fault of the machine: it waits until the fault has gone.
func Check(cfg Config) error {
	n := &Node{}
	defer n.closeParts()
	if err := n.open(cfg); err != nil {
		return err
	}
	m, err := vip.NewManager(n.cfg.VIP) // first: its addresses must not be chosen as a source
	if err != nil {
		return err
	}
	defer m.Close()
	if err := n.cfg.Conn.Check(n.cfg.VRRP); err != nil {
		return err
	}
	return m.Check()
}

// open opens the sockets that are not shared.
func (n *Node) open(cfg Config) error {
	n.cfg = cfg.WithDefaults()
	n.name, n.onRetry = n.cfg.VRRP.Name, cfg.OnRetry
	n.log = quietlog.New(cfg.Logger).With("router", n.name)
	if err := n.cfg.Validate(); err != nil {
		return fmt.Errorf("failover: %s: %w", n.name, err)
	}
	if n.cfg.VIP.Namespace == nil {
		ns, err := vip.OpenNamespace(cfg.Logger)
		if err != nil {
			return err
		}
		n.undo = append(n.undo, func() { ns.Close() })
		n.cfg.VIP.Namespace = ns
	}
	if n.cfg.Conn == nil {
		conn, err := vrrp.Listen(vrrp.ListenConfig{
			Interface: n.cfg.VIP.Interface, IPv6: n.cfg.VRRP.IPv6, Virtual: n.cfg.VIP.Namespace.Virtual, Logger: cfg.Logger,
		})
		if err != nil {
			return err
		}
		n.undo = append(n.undo, func() { conn.Close() })
		n.cfg.Conn = conn
	}
	return nil
}

// connect makes the guard, the Manager and the router, and gives each the functions of the
// other two that it calls.
func (n *Node) connect() error {
	if n.cfg.Guard == nil {
		g, err := guard.Start(guard.Config{Logger: n.cfg.Logger})
		if err != nil {
			return err
		}
		n.undo = append(n.undo, func() { g.Close() })
		n.cfg.Guard = g
	}
	n.will = &will{name: n.name, guard: n.cfg.Guard, log: n.log}
	var err error
	if n.manager, err = vip.NewManager(n.addresses(n.cfg)); err != nil {
		return err
	}
	n.undo = append(n.undo, func() { n.manager.Close() })
	n.will.manager = n.manager
	if n.router, err = vrrp.NewRouter(n.cfg.VRRP, n.cfg.Conn, n.will); err != nil {
		return err
	}
	n.will.router = n.router
	return nil
}

// addresses returns the Manager's part of cfg, with the functions by which the Manager asks
// the router and informs the guard.
func (n *Node) addresses(cfg Config) vip.Config {
	cfg.VIP.Entitled = func() bool { return n.router.Entitled() }
	cfg.VIP.OnRemovals = n.will.setRemovals
	return cfg.VIP
}

// Router returns the virtual router, for its Status, Hold, StandDown, Await, SetPriority
// and Resign. Run and Reconfigure are the Node's.
func (n *Node) Router() *vrrp.Router { return n.router }

// Manager returns what keeps the addresses, for its Status. Everything else is the
// Node's.
func (n *Node) Manager() *vip.Manager { return n.manager }

// Reserved reports whether Run has made sure that no other process of this host runs
// the virtual router. No address is touched before that.
func (n *Node) Reserved() bool { return n.reserved.Load() }

// Run takes part in the election until ctx ends, and keeps the addresses on the interface
// while the router is Active. Run first reserves the virtual router, see
// [vrrp.Router.Reserve]. A router that cannot run for now is tried again until ctx ends,
// see Config.OnRetry.
//
// When ctx has ended, Run ends its parts in this order. The router leaves the election, and
// the addresses are removed when a peer has taken over, or when no peer has done so in time,
// see [vrrp.Router.Run]. The Manager ends, and removes what
// is left. The will and the reservation are withdrawn. The guard and the sockets are
// closed, unless they are shared. Then Run returns nil, or an error if addresses may be
// left or if a shared Conn was closed.
//
// Run may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.began.Swap(true) {
		err := ErrRunning
		if n.ended.Err() != nil {
			err = ErrClosed
		}
		return fmt.Errorf("failover: %s: run: %w", n.name, err)
	}
	defer n.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.closing, cancel)()
	defer quietlog.Flush(n.log)
	defer n.closeParts()
	var release func()
	if ctx.Err() == nil {
		_ = n.persist(ctx, func(ctx context.Context) (err error) {
			release, err = n.router.Reserve(ctx)
			return err
		})
	}
	if release == nil {
		return n.router.Run(ctx) // ctx has ended, or the Conn is closed: the router leaves its group
	}
	defer release()
	n.reserved.Store(true)
	return n.takePart(ctx)
}

// takePart runs the router and the Manager, which outlives the router.
func (n *Node) takePart(ctx context.Context) error {
	ctx, leave := context.WithCancel(ctx)
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	kept := make(chan error, 1)
	go func() {
		defer leave() // without the Manager there are no addresses to elect for
		kept <- n.manager.Run(keeping)
	}()
	failed := n.persist(ctx, n.router.Run)
	stop()
	if err := <-kept; err != nil {
		// The will stays: it names what may be left.
		n.log.Error("addresses may be left behind", "err", err)
		return errors.Join(failed, err)
	}
	n.will.withdraw()
	return failed
}

// persist calls run until it succeeds or ctx ends, and reports each failure. A Conn that is
// closed stays so: run is not called again, and its error is returned.
func (n *Node) persist(ctx context.Context, run func(context.Context) error) (closed error) {
	retry.Until(ctx, func(ctx context.Context) error {
		err := run(ctx)
		if errors.Is(err, vrrp.ErrClosed) {
			closed = err
			return nil
		}
		return err
	}, func(err error, pause time.Duration) {
		if n.onRetry != nil {
			n.onRetry(err, pause)
		}
		n.log.Error("router does not run", "err", err, "retry", pause)
	})
	return closed
}

// Close ends the Node. If Run was called, Close ends it and returns when Run has returned:
// Close must not be called from Config.VRRP.OnTransition while Run runs. Close a Node that
// will not be run: its vrrp.Group would wait for it.
func (n *Node) Close() error {
	n.stop()
	switch err := n.Run(n.closing); { // of a Node that has not run, this touches nothing and closes everything
	case errors.Is(err, ErrRunning):
		<-n.ended.Done()
		return nil
	case errors.Is(err, ErrClosed):
		return nil
	default:
		return err
	}
}

// closeParts closes what New has opened, the latest first.
func (n *Node) closeParts() {
	for _, undo := range slices.Backward(n.undo) {
		undo()
	}
}
