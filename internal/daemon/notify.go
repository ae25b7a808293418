package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// notifyConfig says who is told of a router, or of a group.
type notifyConfig struct {
	kind, name string
	pos        config.Position
	config.Listeners
}

// notifyConfigs are those of the groups and routers of a configuration.
func notifyConfigs(cfg *config.Config) (all []notifyConfig) {
	for _, g := range cfg.Groups {
		all = append(all, notifyConfig{kindGroup, g.Name, g.Pos, g.Listeners})
	}
	for _, r := range cfg.VRRP {
		all = append(all, notifyConfig{kindInstance, r.Name, r.Pos, r.Listeners})
	}
	return all
}

// key names the notifier: a router and a group may have the same name.
func (c notifyConfig) key() string { return notifierKey(c.kind, c.name) }

func notifierKey(kind, name string) string { return kind + " " + name }

// notifier tells programs and a FIFO of the state of one router or one group. Each
// listener is told strictly in order, and waits for no other listener; the protocol
// waits for none. A notifier outlives a router that is replaced on reload, so that
// the order holds there too.
type notifier struct {
	kind, name string
	log        *slog.Logger
	// These end one after the other when the notifier does: the time for the FIFO,
	// for all that programs have not been told yet, and for the last notice.
	forFIFO, forAll, forLast context.Context
	endFIFO, endAll, endLast context.CancelFunc
	lastWithin               time.Duration // the time for the last notice: stopLast

	mu       sync.Mutex // guards what follows; a leaf: listeners are told without it
	cfg      config.Listeners
	programs []*queue
	fifo     *queue // nil: none
	ended    bool
	busy     sync.WaitGroup
}

// notice is one thing to tell.
type notice struct {
	state    string
	priority uint8
	env      []string
}

// listener is who is told.
type listener interface {
	// wants reports whether a notice is for this listener.
	wants(notice) bool
	// tell returns when the notice has been taken in, or ctx is done.
	tell(ctx context.Context, n *notifier, x notice)
}

// queue is a listener and the notices for it that wait. One goroutine at a time
// empties a queue, which keeps the order, and exists only while there is something
// to tell.
type queue struct {
	to      listener
	waiting []notice
	active  bool // a goroutine is emptying it
	// all bounds the time for all that waits, last the time for the last notice.
	all, last context.Context
}

const (
	kindInstance, kindGroup = "INSTANCE", "GROUP"

	// maxNotify is how many notices may wait for a slow listener.
	maxNotify = 64
	// When the daemon ends, stopNotify bounds all that programs have not been
	// told yet, and stopLast the last notice to a program that has not taken
	// in the others by then. A FIFO that is full has no reader.
	stopFIFO   = 500 * time.Millisecond
	stopNotify = 5 * time.Second
	stopLast   = 5 * time.Second
)

func newNotifier(cfg notifyConfig, log *slog.Logger) *notifier {
	n := &notifier{kind: cfg.kind, name: cfg.name, log: log.With("notify", cfg.name), lastWithin: stopLast}
	n.forFIFO, n.endFIFO = context.WithCancel(context.Background())
	n.forAll, n.endAll = context.WithCancel(context.Background())
	n.forLast, n.endLast = context.WithCancel(context.Background())
	n.reconfigure(cfg)
	return n
}

// meets reports whether cfg is what the notifier does already.
func (n *notifier) meets(cfg notifyConfig) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return reflect.DeepEqual(n.cfg, cfg.Listeners)
}

// reconfigure goes on with other programs, or another FIFO. Programs that stay keep
// their queues, and those that go are still told what waits for them.
func (n *notifier) reconfigure(cfg notifyConfig) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cfg = cfg.Listeners
	n.reconfigureFIFO(cfg.NotifyFIFO)
	before := n.programs
	n.programs = nil
	for _, c := range cfg.Notify {
		q := &queue{all: n.forAll, last: n.forLast}
		if i := slices.IndexFunc(before, func(q *queue) bool { return reflect.DeepEqual(q.to.(*program).cfg, c) }); i >= 0 {
			q = before[i]
			before = slices.Delete(before, i, i+1)
		}
		q.to = &program{c, cfg.NotifyUser, cfg.NotifyTimeout}
		n.programs = append(n.programs, q)
	}
}

// send queues a notice. It never blocks.
func (n *notifier) send(x notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fifo != nil {
		n.push(n.fifo, x)
	}
	for _, q := range n.programs {
		if q.to.wants(x) {
			n.push(q, x)
		}
	}
}

// push queues a notice. If there is no room the oldest notice is given up: the
// newest says all that still matters. n.mu is held.
func (n *notifier) push(q *queue, x notice) {
	if n.ended {
		return
	}
	if len(q.waiting) == maxNotify {
		n.log.Warn("too slow: a change of state is not told", "to", fmt.Sprint(q.to), "state", q.waiting[0].state)
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, x)
	if !q.active {
		q.active = true
		n.busy.Go(func() { n.drain(q) })
	}
}

// drain tells a listener what waits in its queue, until nothing does. After the time
// for all, only the last notice is told.
func (n *notifier) drain(q *queue) {
	for {
		n.mu.Lock()
		ctx := q.all
		if ctx.Err() != nil {
			ctx = q.last
			q.waiting = q.waiting[max(0, len(q.waiting)-1):]
		}
		if len(q.waiting) == 0 || ctx.Err() != nil {
			if len(q.waiting) > 0 {
				n.log.Warn("too slow: the end is not told", "to", fmt.Sprint(q.to))
			}
			q.waiting, q.active = nil, false
			n.mu.Unlock()
			return
		}
		x, to := q.waiting[0], q.to
		q.waiting = q.waiting[1:]
		n.mu.Unlock()
		to.tell(ctx, n, x)
	}
}

// stop returns when what is queued has been told, as far as the time goes. Nothing
// is taken in any more.
func (n *notifier) stop() {
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		n.busy.Wait()
		close(idle)
	}()
	for _, stage := range []struct {
		time time.Duration
		end  func()
	}{{stopFIFO, n.endFIFO}, {stopNotify - stopFIFO, n.endAll}, {n.lastWithin, n.endLast}, {stopLast, func() {}}} {
		select {
		case <-idle:
		case <-time.After(stage.time):
		}
		stage.end()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closeFIFO()
}

// program is a listener that is run for each notice.
type program struct {
	cfg     config.Notify
	user    string // empty: ours
	timeout time.Duration
}

func (p *program) String() string { return p.cfg.Command[0] }

func (p *program) wants(x notice) bool {
	return len(p.cfg.On) == 0 || slices.Contains(p.cfg.On, strings.ToLower(x.state))
}

// tell runs the program with Keepalived's arguments; what else is known is in the
// environment. A program that fails has a line in the log, and no other effect.
func (p *program) tell(ctx context.Context, n *notifier, x notice) {
	args := p.cfg.Command[1:]
	if len(p.cfg.On) == 0 {
		args = append(slices.Clone(args), n.kind, n.name, x.state, strconv.Itoa(int(x.priority)))
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	e := healthcheck.Exec{
		Path: p.cfg.Command[0],
		Args: args,
		User: p.user,
		Env: append(append(inherited(p.user), x.env...),
			"HAVIP_KIND="+n.kind,
			"HAVIP_NAME="+n.name,
			"HAVIP_STATE="+x.state,
			"HAVIP_PRIORITY="+strconv.Itoa(int(x.priority))),
	}
	began := time.Now()
	err := e.Check(ctx)
	log := n.log.With("program", e.Path, "state", x.state, "took", time.Since(began).Round(10*time.Microsecond))
	if err != nil {
		log.Warn("notify program failed", "err", err)
		return
	}
	log.Debug("notify program ended")
}

// inherited is the part of our own environment that programs get: where things are
// and which language to speak. Anything else may be a secret, such as a variable that
// the configuration names by env:NAME.
func inherited(user string) []string {
	names := []string{"PATH", "LANG", "LANGUAGE", "TZ"}
	if user == "" {
		names = append(names, "HOME", "USER", "LOGNAME", "SHELL")
	}
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(names, name) && !strings.HasPrefix(name, "LC_")
	})
}

// instanceNotice is what listeners are told of a router's transition.
func instanceNotice(t vrrp.Transition) notice {
	return notice{
		state:    keepalivedState(t),
		priority: t.Priority,
		env: []string{
			"HAVIP_FROM=" + t.From.String(),
			"HAVIP_TO=" + t.To.String(),
			"HAVIP_CAUSE=" + t.Cause.String(),
			"HAVIP_REASON=" + t.Reason,
			"HAVIP_TIME=" + t.Time.Format(time.RFC3339Nano),
		},
	}
}

// keepalivedState is the word for a transition that Keepalived gives its notify
// scripts: what an operator's scripts for Keepalived know.
func keepalivedState(t vrrp.Transition) string {
	switch {
	case t.To == vrrp.Active:
		return "MASTER"
	case t.To == vrrp.Backup:
		return "BACKUP"
	case t.Cause == vrrp.CauseShutdown, t.Cause == vrrp.CauseReconfigured:
		return "STOP"
	}
	return "FAULT"
}
