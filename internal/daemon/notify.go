package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/vrrp"
)

// notifyConfig says who is told.
type notifyConfig struct {
	commands []config.Notify
	fifo     string
	timeout  time.Duration // for one program
}

// notifier tells programs and a FIFO of the state of one router or one group,
// strictly in order, in a goroutine of its own: the protocol never waits. It
// outlives a router that is replaced on reload, so that order holds there too.
type notifier struct {
	kind, name string
	log        *slog.Logger
	queue      chan notice
	task       *task

	mu   sync.Mutex
	cfg  notifyConfig
	fifo *fifo
}

// notice is one thing to tell.
type notice struct {
	state    string
	priority uint8
	env      []string
}

const (
	kindInstance, kindGroup = "INSTANCE", "GROUP"

	// maxNotify is how many notices may wait for a slow program.
	maxNotify = 64
	// stopNotify bounds all that is left to tell when the daemon ends.
	stopNotify = 5 * time.Second
)

func newNotifier(kind, name string, log *slog.Logger) *notifier {
	return &notifier{kind: kind, name: name, log: log.With("notify", name), queue: make(chan notice, maxNotify)}
}

// configure goes on with other programs, or another FIFO.
func (n *notifier) configure(cfg notifyConfig) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fifo != nil && n.cfg.fifo == cfg.fifo {
		n.cfg = cfg
		return nil
	}
	var fifo *fifo
	if cfg.fifo != "" {
		var err error
		if fifo, err = openFIFO(cfg.fifo); err != nil {
			return err
		}
	}
	n.close()
	n.cfg, n.fifo = cfg, fifo
	return nil
}

func (n *notifier) close() {
	if n.fifo != nil {
		n.fifo.Close()
		n.fifo = nil
	}
}

// send queues a notice. It never blocks.
func (n *notifier) send(x notice) {
	select {
	case n.queue <- x:
	default:
		n.log.Warn("notify programs are too slow: a change of state is not reported", "state", x.state)
	}
}

// run ends when ctx has and what was queued by then has been reported, as far
// as the time goes.
func (n *notifier) run(ctx context.Context) error {
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.close()
	}()
	last, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopNotify, cancel) })()
	for {
		select {
		case x := <-n.queue:
			n.report(last, x)
		case <-ctx.Done():
			for last.Err() == nil {
				select {
				case x := <-n.queue:
					n.report(last, x)
				default:
					return nil
				}
			}
			n.log.Warn("notify programs are too slow: the end is not reported")
			return nil
		}
	}
}

// report tells the FIFO, and then runs the programs one after the other. What
// they do wrong is their own log line and nothing else.
func (n *notifier) report(ctx context.Context, x notice) {
	n.mu.Lock()
	cfg, fifo := n.cfg, n.fifo
	n.mu.Unlock()
	if fifo != nil {
		// The form of Keepalived's vrrp_notify_fifo. The FIFO does not block, and
		// a line is short enough to be written as a whole or not at all.
		if _, err := fmt.Fprintf(fifo, "%s \"%s\" %s %d\n", n.kind, n.name, x.state, x.priority); err != nil {
			n.log.Warn("not written to the FIFO", "path", cfg.fifo, "state", x.state, "error", err)
		}
	}
	for _, c := range cfg.commands {
		args := append(c.Command[:len(c.Command):len(c.Command)], n.kind, n.name, x.state, strconv.Itoa(int(x.priority)))
		if len(c.On) > 0 {
			args = c.Command
			if !slices.Contains(c.On, strings.ToLower(x.state)) {
				continue
			}
		}
		n.exec(ctx, cfg.timeout, args, x)
	}
}

// exec runs one program, with what this daemon knows beyond
// that in its environment.
func (n *notifier) exec(ctx context.Context, timeout time.Duration, command []string, x notice) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	program := healthcheck.Exec{
		Path: command[0],
		Args: command[1:],
		Env: append(os.Environ(), append(x.env,
			"HAVIP_KIND="+n.kind,
			"HAVIP_NAME="+n.name,
			"HAVIP_STATE="+x.state,
			"HAVIP_PRIORITY="+strconv.Itoa(int(x.priority)))...),
	}
	if err := program.Check(ctx); err != nil {
		n.log.Warn("notify program failed", "program", command[0], "state", x.state, "error", err)
	}
}

// instanceNotice tells of a router.
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

// keepalivedState is the word that Keepalived gives its notify scripts.
func keepalivedState(t vrrp.Transition) string {
	switch {
	case t.To == vrrp.Active:
		return "MASTER"
	case t.To == vrrp.Backup:
		return "BACKUP"
	case t.Cause == vrrp.CauseShutdown:
		return "STOP"
	}
	return "FAULT"
}
