package alarm

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/havip/havip/internal/report"
)

// stopTime is for how long Stop waits for a last try of what is not delivered.
const stopTime = 2 * time.Second

// Center follows the events of a Ring and tells them to all receivers.
type Center struct {
	host string
	ring *report.Ring
	log  *slog.Logger

	listed atomic.Pointer[[]*receiver] // in the order of the file, for who only looks

	mu        sync.Mutex // guards what follows; those of the receivers come after it
	receivers map[string]*running
	begun     bool
	ended     sync.WaitGroup // goroutines
}

// running is a receiver with its goroutines.
type running struct {
	*receiver
	closing chan struct{} // closed: the last try
	cancel  context.CancelFunc
	left    sync.WaitGroup
}

// New returns a Center without receivers. Messages name the host. The log, which must not
// block, gets what cannot be delivered.
func New(host string, ring *report.Ring, log *slog.Logger) *Center {
	return &Center{host: host, ring: ring, log: log, receivers: map[string]*running{}}
}

// Reconfigure goes on with these receivers, which are valid. One that has the name of a
// present one takes over what that was told and what waits. One that is new hears of all
// that the Ring has at the first call, and after that of what lasts.
func (c *Center) Reconfigure(configs []Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, r := range c.receivers {
		if !slices.ContainsFunc(configs, func(cfg Config) bool { return cfg.Name == name }) {
			delete(c.receivers, name)
			r.cancel() // nobody waits for it
		}
	}
	for _, cfg := range configs {
		cfg = cfg.WithDefaults()
		if r := c.receivers[cfg.Name]; r != nil {
			r.reconfigure(cfg)
			continue
		}
		r := newReceiver(c.host, c.ring, c.log, cfg)
		if c.begun {
			r.prime()
		}
		c.receivers[cfg.Name] = c.start(r)
	}
	c.begun = true
	list := make([]*receiver, len(configs))
	for i, cfg := range configs {
		list[i] = c.receivers[cfg.Name].receiver
	}
	c.listed.Store(&list)
}

// Status is how the receivers fare, in the order of the file. It waits for no delivery.
func (c *Center) Status() []report.Receiver {
	all := []report.Receiver{}
	if list := c.listed.Load(); list != nil {
		for _, r := range *list {
			all = append(all, r.status())
		}
	}
	return all
}

// start runs a receiver. c.mu is held.
func (c *Center) start(r *receiver) *running {
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{receiver: r, closing: make(chan struct{}), cancel: cancel}
	run.left.Add(1)
	c.ended.Go(func() { r.follow(ctx) })
	c.ended.Go(func() {
		defer run.left.Done()
		defer cancel()
		r.deliver(ctx, run.closing)
	})
	return run
}

// Retain ends the alarms about parts that are not configured any more. exists is asked by
// an event about each.
func (c *Center) Retain(exists func(report.Event) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.receivers {
		r.catchUp()
		r.receiver.mu.Lock()
		r.book.Retain(exists, time.Now())
		r.receiver.mu.Unlock()
		r.poke()
	}
}

// Stop ends all receivers. What waits is tried once more, by all at the same time, and for
// stopTime at most.
func (c *Center) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Collect(maps.Values(c.receivers))
	end := time.AfterFunc(stopTime, func() {
		for _, r := range all {
			r.cancel()
		}
	})
	defer end.Stop()
	for _, r := range all {
		close(r.closing)
	}
	for _, r := range all {
		r.left.Wait()
	}
	clear(c.receivers)
	c.ended.Wait()
}

// Test has a receiver tell of a trial, now and once. The error is why that failed;
// report.ErrUnknown: no receiver has that name.
func (c *Center) Test(ctx context.Context, name string) error {
	c.mu.Lock()
	r := c.receivers[name]
	var names []string
	for n := range c.receivers {
		names = append(names, n)
	}
	c.mu.Unlock()
	if r == nil {
		slices.Sort(names)
		return report.Unknown("receiver of alarms", name, names)
	}
	now := time.Now()
	e := report.Event{Time: now, Level: "info", Kind: report.KindControl, Message: "a trial of this receiver: nothing has happened"}
	n := &Notice{Version: 1, ID: fmt.Sprintf("%s-test-%d", name, now.UnixNano()), Host: c.host, Time: now, Alarms: []Alarm{{
		Key: "test", State: News, Kind: "test", Severity: Info, Summary: e.Message, Since: now, Changes: 1, Events: []report.Event{e}}}}
	if _, err := r.attempt(ctx, n, map[string]bool{}); err != nil {
		return fmt.Errorf("alarm %s: %w", name, err)
	}
	return nil
}

// sameWay reports whether both deliver in the same way.
func (c Config) sameWay(o Config) bool {
	c.On, o.On, c.Repeat, o.Repeat = nil, nil, 0, 0
	return reflect.DeepEqual(c, o)
}
