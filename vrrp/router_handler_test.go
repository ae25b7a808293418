package vrrp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/havip/havip/internal/quietlog/quietlogtest"
)

func TestRouterSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.prepare(t, 1, Config{Priority: 255}), lan.node(t, 2, Config{Priority: 110})
		a.handler.during = func(context.Context, string) error {
			time.Sleep(9 * time.Second)
			return nil
		}
		a.run()
		time.Sleep(8500 * time.Millisecond)
		a.is(Active)
		b.is(Backup)
		if got := len(lan.from(a.addr)); got != 9 {
			t.Errorf("%d advertisements in 8.5 s, want 9", got)
		}
		time.Sleep(20 * time.Second)
		a.is(Active)
		want := []string{"acquire 0s", "announce 9s"}
		if diff := cmp.Diff(want, a.handler.log()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRouterHangingHandler: a router without its addresses must not keep a peer
// from serving, and its protocol goes on.
func TestRouterHangingHandler(t *testing.T) {
	for name, obeys := range map[string]bool{"ends with its context": true, "ignores its context": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := newFakeLAN()
				a, b := lan.prepare(t, 1, Config{Priority: 255}), lan.node(t, 2, Config{Priority: 110})
				let := make(chan struct{})
				a.handler.during = func(ctx context.Context, call string) error {
					if call != "acquire" {
						return nil
					}
					if !obeys {
						ctx = context.Background()
					}
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-let:
						return nil
					}
				}
				a.run()
				time.Sleep(handlerTime - 1)
				a.is(Active)
				b.is(Backup)
				time.Sleep(1 + skew3(110))
				a.is(Initialize)
				b.is(Active)
				if fault := strings.Join(a.Status().Faults, ", "); !strings.HasPrefix(fault, "addresses: ") {
					t.Errorf("fault %q, want one about the addresses", fault)
				}
				if !obeys {
					// No other call can be made, so it does not try again.
					time.Sleep(time.Minute)
					a.is(Initialize)
					if got := a.Status().Counters.Transitions; got != 2 {
						t.Errorf("%d transitions, want 2: it became Active without its addresses", got)
					}
				}
				close(let)
				time.Sleep(2 * time.Minute)
				a.is(Active)
				b.is(Backup)
				if calls := a.handler.log(); !strings.HasPrefix(calls[2], "release") && !strings.HasPrefix(calls[1], "release") {
					t.Errorf("calls %q: the release is missing", calls)
				}
			})
		})
	}
}

func TestRouterFailingHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, b := lan.prepare(t, 1, Config{Priority: 255}), lan.node(t, 2, Config{Priority: 110})
		a.handler.during = func(_ context.Context, call string) error {
			if call == "acquire" && lan.now() < 6*time.Second {
				return errors.New("no such device")
			}
			return nil
		}
		a.run()
		a.is(Initialize)
		if got, want := strings.Join(a.Status().Faults, ", "), "addresses: no such device"; got != want {
			t.Errorf("fault %q, want %q", got, want)
		}
		time.Sleep(skew3(110))
		b.is(Active)
		time.Sleep(30 * time.Second)
		a.is(Active)
		b.is(Backup)
		// The pauses double: 1 s, 2 s, 4 s.
		want := []string{
			"acquire 0s", "acquire failed 0s", "release 0s",
			"acquire 1s", "acquire failed 1s", "release 1s",
			"acquire 3s", "acquire failed 3s", "release 3s",
			"acquire 7s", "announce 7s",
			"announce 9s", // b gave way: neighbours may still think of it
		}
		if diff := cmp.Diff(want, a.handler.log()); diff != "" {
			t.Error(diff)
		}
		// After a success the pauses begin anew.
		a.handler.mu.Lock()
		a.handler.calls = nil
		a.handler.during = func(_ context.Context, call string) error {
			if call == "acquire" && lan.now() < 32*time.Second {
				return errors.New("no such device")
			}
			return nil
		}
		a.handler.mu.Unlock()
		time.Sleep(31*time.Second - lan.now())
		a.Hold("test")()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want = []string{
			"release 31s", "acquire 31s", "acquire failed 31s", "release 31s",
			"acquire 32s", "announce 32s",
		}
		got := a.handler.log()
		if diff := cmp.Diff(want, got[:min(len(want), len(got))]); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRouterOvertakenCall: a Release that comes while Acquire hangs cancels it,
// and is made.
func TestRouterOvertakenCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 255})
		a.handler.during = func(ctx context.Context, call string) error {
			if call == "acquire" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		a.run()
		time.Sleep(time.Second)
		release := a.Hold("check web failed")
		synctest.Wait()
		want := []string{"acquire 0s", "acquire failed 1s", "release 1s"}
		if diff := cmp.Diff(want, a.handler.log()); diff != "" {
			t.Error(diff)
		}
		if got, want := strings.Join(a.Status().Faults, ", "), "check web failed"; got != want {
			t.Errorf("fault %q, want %q: a cancelled call has not failed", got, want)
		}
		a.handler.during = nil
		release()
		a.is(Active)
	})
}

// TestRouterOvertakenRelease: an Acquire that comes while Release hangs cancels that.
func TestRouterOvertakenRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.node(t, 1, Config{Priority: 255})
		a.handler.during = func(ctx context.Context, call string) error {
			if call == "release" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		release := a.Hold("test")
		time.Sleep(time.Second)
		release()
		synctest.Wait()
		want := []string{"acquire 0s", "announce 0s", "release 0s", "release failed 1s", "acquire 1s", "announce 1s"}
		if diff := cmp.Diff(want, a.handler.log()); diff != "" {
			t.Error(diff)
		}
		a.handler.during = nil
	})
}

// TestRouterStaleResult: the result of an Acquire that was overtaken is not taken for that
// of the next Acquire.
func TestRouterStaleResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a := lan.prepare(t, 1, Config{Priority: 255})
		first := true
		a.handler.during = func(ctx context.Context, call string) error {
			if call != "acquire" || !first {
				return nil
			}
			first = false
			<-ctx.Done()
			return ctx.Err()
		}
		a.run()
		time.Sleep(time.Second)
		a.Hold("test")() // the second Acquire is asked for before the first one ends
		a.is(Active)
		if got := a.Status().Counters.Transitions; got != 3 || !a.handler.held {
			t.Errorf("%d transitions, want 3; addresses held: %v", got, a.handler.held)
		}
	})
}

// TestRouterBlockedCallback: an OnTransition that does not return stops neither the
// protocol nor the Handler, and no transition is lost or out of order.
func TestRouterBlockedCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		let := make(chan struct{})
		a := lan.node(t, 1, Config{Priority: 255, OnTransition: func(Transition) { <-let }})
		b := lan.node(t, 2, Config{Priority: 110})
		for range 3 {
			time.Sleep(time.Second)
			a.Hold("test")()
			a.is(Active)
		}
		b.is(Backup)
		time.Sleep(time.Second)
		a.Hold("test")
		time.Sleep(skew3(110))
		b.is(Active)
		want := []string{
			"acquire 0s", "announce 0s",
			"release 1s", "acquire 1s", "announce 1s",
			"release 2s", "acquire 2s", "announce 2s",
			"release 3s", "acquire 3s", "announce 3s",
			"release 4s",
		}
		if diff := cmp.Diff(want, a.handler.log()); diff != "" {
			t.Error(diff)
		}
		if got := len(a.history()); got != 1 {
			t.Errorf("%d calls while the first blocks, want 1", got)
		}
		a.stop()
		time.Sleep(time.Minute)
		select {
		case <-a.done:
			t.Error("Run returns while OnTransition runs")
		default:
		}
		close(let)
		synctest.Wait()
		want = []string{
			"0s Active: address owner",
			"1s Initialize: fault", "1s Active: address owner",
			"2s Initialize: fault", "2s Active: address owner",
			"3s Initialize: fault", "3s Active: address owner",
			"4s Initialize: fault",
			"4.5703125s Initialize: shutdown",
		}
		if diff := cmp.Diff(want, a.history()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestRouterBlockedCallbackReleases: the addresses are released although OnTransition still
// blocks in the call about becoming Active.
func TestRouterBlockedCallbackReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		let := make(chan struct{})
		a := lan.node(t, 1, Config{Priority: 110, OnTransition: func(tr Transition) {
			if tr.To == Active {
				<-let
			}
		}})
		defer close(let)
		time.Sleep(10 * time.Second)
		a.is(Active)
		b := lan.node(t, 2, Config{Priority: 200})
		time.Sleep(10 * time.Second)
		a.is(Backup)
		b.is(Active)
		if a.handler.held || !b.handler.held {
			t.Errorf("held by the one that was Active: %v, and by the one that is: %v", a.handler.held, b.handler.held)
		}
	})
}

// TestRouterBlockedLogger: a router whose logger does not return is like any other,
// and so is its interface.
func TestRouterBlockedLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		b := lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		b.is(Active)
		let := make(chan struct{})
		var told atomic.Int32
		a := lan.node(t, 1, Config{
			Priority: 120, Logger: quietlogtest.Blocked(let), OnTransition: func(Transition) { told.Add(1) },
		})
		defer close(let)
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Backup)
		for _, up := range []bool{false, true} {
			a.net.change(linkEvent{index: 1, name: "eth0"}, func(nif *netif) { nif.up = up })
		}
		if got := strings.Join(a.Status().Faults, ", "); got != "" {
			t.Errorf("fault %q: the interface is not watched any more", got)
		}
		time.Sleep(10 * time.Second)
		a.is(Active)
		if !a.handler.held || b.handler.held {
			t.Errorf("held by the Active router: %v, by the Backup: %v", a.handler.held, b.handler.held)
		}
		if got := a.Status().Counters.Transitions; got != 5 || told.Load() != 5 {
			t.Errorf("%d transitions, %d told, want 5", got, told.Load())
		}
	})
}

// TestRouterTellsWhenDone: OnTransition finds the addresses in place, and gone.
func TestRouterTellsWhenDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var a *node
		var saw []string
		a = lan.prepare(t, 1, Config{Priority: 255, OnTransition: func(tr Transition) {
			a.handler.mu.Lock()
			defer a.handler.mu.Unlock()
			saw = append(saw, fmt.Sprintf("%v held %v", tr.To, a.handler.held))
		}})
		a.handler.during = func(context.Context, string) error {
			time.Sleep(time.Second)
			return nil
		}
		a.run()
		time.Sleep(5 * time.Second)
		a.Hold("test")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want := []string{"Active held true", "Initialize held false"}
		if diff := cmp.Diff(want, saw); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWorkerBounded: the queue behind a call that hangs does not grow without bound.
func TestWorkerBounded(t *testing.T) {
	w := newWorker()
	for i := range 10000 {
		w.pushTask(task{kind: Changed, transition: Transition{Reason: fmt.Sprint(i)}})
		w.pushTask(task{kind: Release})
		w.pushTask(task{kind: Acquire})
		w.pushTask(task{kind: Announce})
	}
	if n, most := len(w.queue), maxTransitions+3; n > most {
		t.Errorf("%d tasks wait, want %d at most", n, most)
	}
	i := slices.IndexFunc(w.queue, func(e task) bool { return e.kind == Changed })
	if got, want := w.queue[i].transition.Reason, fmt.Sprint(10000-maxTransitions); got != want {
		t.Errorf("the oldest transition is %s, want %s: the latest are kept", got, want)
	}
}
