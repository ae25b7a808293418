package alarm

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/havip/havip/internal/report"
)

const (
	// The pause after a failure is firstPause, then twice the pause before, up to
	// lastPause, each less up to a quarter by chance: many nodes do not come at once.
	firstPause = time.Second
	lastPause  = time.Minute
	// Webhooks and mail gather for so long what happens in one moment: a failover, and
	// what follows from it.
	webhookGather = 100 * time.Millisecond
	mailGather    = 5 * time.Second
)

// receiver delivers to one webhook or mailbox. Two goroutines do it, so that the Ring is
// read while the other end is slow.
type receiver struct {
	host string
	ring *report.Ring
	log  *slog.Logger
	// send makes one attempt.
	send func(ctx context.Context, c Config, n *Notice, done map[string]bool) error
	// changed has an entry when there is something to look at: an event or a
	// configuration.
	changed chan struct{}

	mu    sync.Mutex // guards what follows; a leaf
	cfg   Config
	book  *Book
	after uint64 // the ID of the latest event that the book has
	count uint64 // of notices
	began time.Time
	state report.Receiver // but for its name and kind
}

func newReceiver(host string, ring *report.Ring, log *slog.Logger, c Config) *receiver {
	return &receiver{host: host, ring: ring, log: log.With("alarm", c.Name), send: send, changed: make(chan struct{}, 1),
		cfg: c, book: NewBook(c.rules()), began: time.Now()}
}

// send delivers by the way that c names.
func send(ctx context.Context, c Config, n *Notice, done map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.Webhook == "" {
		return submit(ctx, c, n, done)
	}
	return post(ctx, c, n)
}

func (c Config) rules() Rules {
	r := Rules{On: c.On, Repeat: c.Repeat, Gather: webhookGather}
	switch {
	case c.Webhook == "":
		r.Gather = mailGather
	case c.Format == Alertmanager:
		r.Refresh, r.Repeat = true, alertRefresh
	}
	return r
}

// poke has deliver look again.
func (r *receiver) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// reconfigure goes on with another configuration. What was told stays told, and what
// waits is delivered by the new one at once.
func (r *receiver) reconfigure(c Config) {
	r.mu.Lock()
	r.cfg = c
	r.book.SetRules(c.rules())
	r.mu.Unlock()
	r.poke()
}

// prime reads what the Ring has. Of that the receiver hears what lasts.
func (r *receiver) prime() {
	r.catchUp()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.book.Settle()
}

// catchUp takes the events that have come into the book.
func (r *receiver) catchUp() {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	events, last, lost := r.ring.After(r.after)
	if lost && len(events) > 0 {
		r.book.Lose(events[0].ID - r.after - 1)
	}
	for _, e := range events {
		r.book.Take(e, now)
	}
	r.after = last
}

// follow reads the Ring until ctx ends.
func (r *receiver) follow(ctx context.Context) {
	for {
		r.mu.Lock()
		after := r.after
		r.mu.Unlock()
		if r.ring.Wait(ctx, after) != nil {
			return
		}
		r.catchUp()
		r.poke()
	}
}

// deliver tells what is due until closing is closed; then it tries what waits once more,
// and whatever it does ends with ctx.
func (r *receiver) deliver(ctx context.Context, closing <-chan struct{}) {
	for {
		n := r.next(false)
		if n == nil {
			if !r.await(ctx, closing) {
				break
			}
			continue
		}
		if !r.persist(ctx, closing, n) {
			break
		}
	}
	r.catchUp()
	n := r.next(true)
	if n == nil {
		return
	}
	cfg, err := r.attempt(ctx, n, map[string]bool{})
	if err != nil {
		r.giveUp(n, cfg, err)
	}
}

// next makes a notice of what is due, or with all of whatever there is; nil: nothing.
func (r *receiver) next(all bool) *Notice {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	take := r.book.Due
	if all {
		take = r.book.Flush
	}
	alarms := take(now)
	if len(alarms) == 0 {
		return nil
	}
	r.count++
	return &Notice{Version: 1, ID: r.cfg.Name + "-" + strconv.FormatInt(r.began.UnixNano(), 36) + "-" + strconv.FormatUint(r.count, 10),
		Host: r.host, Time: now, Lost: r.book.Lost(), Alarms: alarms}
}

// await waits until something may be due; false: it is time to end.
func (r *receiver) await(ctx context.Context, closing <-chan struct{}) bool {
	r.mu.Lock()
	next := r.book.Next()
	r.mu.Unlock()
	var due <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(time.Until(next))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-r.changed:
	case <-due:
	case <-closing:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// persist delivers a notice, or gives it up. It returns false if it is time to end; then
// the notice has had its last try.
func (r *receiver) persist(ctx context.Context, closing <-chan struct{}, n *Notice) bool {
	defer r.wait(len(n.Alarms))()
	pause, failures, done := firstPause, 0, map[string]bool{}
	for {
		cfg, err := r.attempt(ctx, n, done)
		if err == nil {
			if failures > 0 {
				r.log.Info("alarms are delivered again", "failures", failures)
			}
			return true
		}
		failures++
		var f *failure
		final := errors.As(err, &f) && f.final
		ended := ctx.Err() != nil
		if age := time.Since(n.Time); final || ended || age > cfg.GiveUp {
			r.giveUp(n, cfg, err)
			if !final && !ended {
				r.requeue(n)
			}
			return !ended
		}
		wait := pause - time.Duration(rand.Int64N(int64(pause/4)))
		if f != nil && f.wait > wait {
			wait = f.wait
		}
		if failures == 1 {
			r.log.Warn("an alarm is not delivered yet", "err", err, "retry", wait.Round(time.Millisecond))
		}
		if !r.pause(ctx, closing, wait, cfg) {
			if cfg, err = r.attempt(ctx, n, done); err != nil {
				r.giveUp(n, cfg, err)
			}
			return false
		}
		pause = min(2*pause, lastPause)
	}
}

// attempt sends once, by the configuration of now.
func (r *receiver) attempt(ctx context.Context, n *Notice, done map[string]bool) (Config, error) {
	r.mu.Lock()
	cfg := r.cfg
	r.mu.Unlock()
	err := r.send(ctx, cfg, n, done)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Count(time.Now(), err)
	return cfg, err
}

// wait says how many alarms are on their way, and returns how to take that back.
func (r *receiver) wait(alarms int) (over func()) {
	set := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.state.Waiting = n
	}
	set(alarms)
	return func() { set(0) }
}

// status is how the receiver fares.
func (r *receiver) status() report.Receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Name, s.Kind = r.cfg.Name, "mail"
	if r.cfg.Webhook != "" {
		s.Kind = "webhook, " + r.cfg.Format.String()
	}
	return s
}

// pause waits between two attempts, unless the configuration is not before's any more;
// false: it is time to end.
func (r *receiver) pause(ctx context.Context, closing <-chan struct{}, d time.Duration, before Config) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-r.changed:
			r.mu.Lock()
			same := r.cfg.sameWay(before)
			r.mu.Unlock()
			if !same {
				r.poke() // what else has changed is looked at later
				return true
			}
		case <-closing:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// giveUp says that a notice will not arrive, and counts its alarms for the next.
func (r *receiver) giveUp(n *Notice, cfg Config, err error) {
	r.log.Error("an alarm is given up", "err", err, "alarms", len(n.Alarms), "first", n.worst().headline(), "age", time.Since(n.Time).Round(time.Millisecond))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.book.Lose(n.Lost + uint64(len(n.Alarms)))
}

// requeue makes what lasts of a notice, and what has ended, due again.
func (r *receiver) requeue(n *Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.book.Requeue(n.Alarms, time.Now())
}
