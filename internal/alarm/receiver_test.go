package alarm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// far is the other end of a receiver: what it gets, and how it answers.
type far struct {
	mu     sync.Mutex
	got    []string // state and key of each alarm that has arrived
	at     []time.Time
	tries  []time.Time
	lost   uint64
	answer func(ctx context.Context, c Config, n *Notice) error
}

func (f *far) send(ctx context.Context, c Config, n *Notice, _ map[string]bool) error {
	f.mu.Lock()
	f.tries = append(f.tries, time.Now())
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, c, n); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range n.Alarms {
		f.got, f.at = append(f.got, string(a.State)+" "+a.Key), append(f.at, time.Now())
	}
	f.lost += n.Lost
	return nil
}

func (f *far) String() string { return strings.Join(f.got, ", ") }

// answers sets how it answers from now on; nil: it takes everything.
func (f *far) answers(answer func(ctx context.Context, c Config, n *Notice) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// trial is a receiver under test, in virtual time.
type trial struct {
	far
	*receiver
	log     labtest.Log
	ring    *report.Ring
	closing chan struct{}
	cancel  context.CancelFunc
}

func newTrial(t *testing.T, c Config) *trial {
	tr := &trial{ring: report.NewRing(100), closing: make(chan struct{})}
	tr.receiver = newReceiver("lb01", tr.ring, logTo(&tr.log), c.WithDefaults())
	tr.receiver.send = tr.far.send
	ctx, cancel := context.WithCancel(t.Context())
	tr.cancel = cancel
	go tr.follow(ctx)
	go func() {
		defer cancel()
		tr.deliver(ctx, tr.closing)
	}()
	return tr
}

// pass lets time pass, and what happens in it come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// happen adds an event of now.
func (tr *trial) happen(e report.Event) {
	e.Time = time.Now()
	tr.ring.Add(e)
}

var hook = Config{Name: "ops", Webhook: "http://192.0.2.1/"}

// TestDelivery: what a receiver gets, and when, whatever becomes of it.
func TestDelivery(t *testing.T) {
	down := func(context.Context, Config, *Notice) error { return errors.New("connection refused") }
	for _, c := range []struct {
		name string
		do   func(t *testing.T, tr *trial)
		want string
		log  []string // in this order; nothing else
	}{
		{"at once", func(t *testing.T, tr *trial) {
			tr.happen(split(0))
			pass(webhookGather)
		}, "raised split VI_1", nil},
		{"tried again until it arrives, with growing pauses", func(t *testing.T, tr *trial) {
			tr.answers(down)
			tr.happen(split(0))
			pass(10 * time.Minute)
			for i := 2; i < len(tr.tries); i++ {
				before, pause := tr.tries[i-1].Sub(tr.tries[i-2]), tr.tries[i].Sub(tr.tries[i-1])
				if pause > lastPause || pause < lastPause/2 && pause < before*11/10 {
					t.Errorf("pauses %v, %v", before, pause)
				}
			}
			if n := len(tr.tries); n < 12 || n > 25 {
				t.Errorf("%d tries in ten minutes", n)
			}
			tr.answers(nil)
			pass(lastPause)
		}, "raised split VI_1", []string{"an alarm is not delivered yet", "alarms are delivered again"}},
		{"refused for good, and so not tried again", func(t *testing.T, tr *trial) {
			tr.answers(func(context.Context, Config, *Notice) error {
				return &failure{err: errors.New("the receiver answers 404"), final: true}
			})
			tr.happen(split(0))
			pass(time.Hour)
			if len(tr.tries) != 1 {
				t.Errorf("%d tries", len(tr.tries))
			}
		}, "", []string{"an alarm is given up"}},
		{"as late as the receiver asks for", func(t *testing.T, tr *trial) {
			tr.answers(func(context.Context, Config, *Notice) error {
				return &failure{err: errors.New("429"), wait: 5 * time.Minute}
			})
			tr.happen(split(0))
			pass(4 * time.Minute)
			if len(tr.tries) != 1 {
				t.Errorf("%d tries", len(tr.tries))
			}
			tr.answers(nil)
			pass(2 * time.Minute)
		}, "raised split VI_1", []string{"an alarm is not delivered yet", "alarms are delivered again"}},
		{"given up when it is old; what lasts is told anew", func(t *testing.T, tr *trial) {
			tr.answers(down)
			tr.happen(split(0))
			tr.happen(transition(0, "Backup", "Active", "x"))
			pass(time.Hour + 2*time.Minute)
			tr.answers(nil)
			pass(2 * time.Minute)
			if tr.lost != 2 {
				t.Errorf("%d are lost, want 2", tr.lost)
			}
		}, "raised split VI_1", []string{"an alarm is not delivered yet", "an alarm is given up", "an alarm is not delivered yet", "alarms are delivered again"}},
		{"what happens meanwhile is gathered", func(t *testing.T, tr *trial) {
			tr.answers(down)
			tr.happen(noBackends(0))
			pass(time.Minute)
			for range 500 {
				tr.happen(backendsAgain(0))
				tr.happen(noBackends(0))
				pass(time.Second)
			}
			tr.happen(backendsAgain(0))
			tr.answers(nil)
			pass(2 * time.Minute)
		}, "raised pool web, resolved pool web", []string{"an alarm is not delivered yet", "alarms are delivered again"}},
		{"events that are not kept any more are counted", func(t *testing.T, tr *trial) {
			tr.receiver.mu.Lock() // nobody reads
			for range 150 {
				tr.happen(split(0))
			}
			tr.receiver.mu.Unlock()
			pass(time.Second)
			if tr.lost == 0 {
				t.Error("nothing is lost")
			}
		}, "raised split VI_1", nil},
		{"at the end: what waits, without its time", func(t *testing.T, tr *trial) {
			tr.receiver.mu.Lock()
			tr.book.SetRules(Rules{On: Kinds, Gather: time.Hour})
			tr.receiver.mu.Unlock()
			tr.happen(transition(0, "Active", "Initialize", "shutdown"))
			close(tr.closing)
		}, "news transition VI_1", nil},
		{"at the end: what has failed once more", func(t *testing.T, tr *trial) {
			tr.answers(down)
			tr.happen(split(0))
			pass(time.Minute)
			tr.answers(nil)
			close(tr.closing)
		}, "raised split VI_1", []string{"an alarm is not delivered yet"}},
		{"at the end: a receiver that hangs", func(t *testing.T, tr *trial) {
			tr.answers(func(ctx context.Context, _ Config, _ *Notice) error { <-ctx.Done(); return ctx.Err() })
			tr.happen(split(0))
			pass(time.Second)
			close(tr.closing)
			pass(time.Second)
			tr.cancel()
		}, "", []string{"an alarm is given up"}},
		{"a reload repeats nothing, and delivers by the new way at once", func(t *testing.T, tr *trial) {
			tr.happen(split(0))
			pass(time.Second)
			tr.reconfigure(hook.WithDefaults())
			tr.answers(func(_ context.Context, c Config, _ *Notice) error {
				if c.Webhook != "http://192.0.2.2/" {
					return errors.New("connection refused")
				}
				return nil
			})
			tr.happen(noBackends(0))
			pass(10 * time.Minute)
			other := hook
			other.Webhook = "http://192.0.2.2/"
			tr.reconfigure(other.WithDefaults())
			pass(time.Millisecond)
		}, "raised split VI_1, raised pool web", []string{"an alarm is not delivered yet", "alarms are delivered again"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, hook)
				pass(time.Second)
				c.do(t, tr)
				synctest.Wait()
				tr.cancel()
				synctest.Wait()
				if got := tr.far.String(); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				checkLines(t, tr.log.String(), c.log)
			})
		})
	}
}

// checkLines compares the messages of a log.
func checkLines(t *testing.T, log string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if log == "" {
		lines = nil
	}
	if len(lines) != len(want) {
		t.Fatalf("logged\n%s\nwant %q", log, want)
	}
	for i, l := range lines {
		if !strings.Contains(l, want[i]) {
			t.Errorf("line %d is %s, want %s", i, l, want[i])
		}
	}
}
