package healthcheck

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestSubscribersHearEverythingInOrder: two consumers, one of them slow, get
// the same story, and the slow one delays nobody.
func TestSubscribersHearEverythingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(everySecond)
		m, stop := startMonitor(t, Config{Checker: f, Rise: 1, Fall: 1})
		var fast, slow []string
		tell := func(to *[]string, delay time.Duration) func(Status) {
			return func(s Status) {
				time.Sleep(delay)
				*to = append(*to, fmt.Sprint(s.State, s.Err != nil, s.Paused))
			}
		}
		synctest.Wait()
		m.Subscribe(tell(&fast, 0))
		cancelSlow := m.Subscribe(tell(&slow, 5*time.Second))
		time.Sleep(3500 * ms)
		m.Pause()
		synctest.Wait()
		want := []string{"up false false", "down true false", "up false false", "down true false", "down true true"}
		if !slices.Equal(fast, want) {
			t.Errorf("fast consumer heard %v, want %v", fast, want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(slow, want) {
			t.Errorf("slow consumer heard %v, want %v", slow, want)
		}
		cancelSlow()
		m.Resume()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(slow) != len(want) {
			t.Errorf("a cancelled consumer was called: %v", slow[len(want):])
		}
		_ = stop()
	})
}

// TestHangingConsumer: the queue of a consumer that hangs stays bounded, and the last
// Status that it gets is the latest.
func TestHangingConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTarget(everySecond)
		m, stop := startMonitor(t, Config{Checker: f, Rise: 1, Fall: 1})
		hang := make(chan struct{})
		var heard []Status
		m.Subscribe(func(s Status) { <-hang; heard = append(heard, s) })
		time.Sleep(1000*time.Second + ms)
		_ = stop()
		close(hang)
		synctest.Wait()
		if len(heard) != 65 {
			t.Errorf("heard %d changes, want the one under way and the 64 that wait", len(heard))
		}
		if last := heard[len(heard)-1]; last != m.Status() {
			t.Errorf("heard last %+v, want %+v", last, m.Status())
		}
	})
}

// TestSubscribersGetNoUnknown: a consumer is not told of Unknown. If it takes every state but Up
// for Down, it would otherwise take a backend out at every start.
func TestSubscribersGetNoUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMonitor(Config{Checker: newTarget(func(ctx context.Context, _ int) error { return after(ctx, 100*ms, nil) })})
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan State, 10) // no race: nothing else orders a look before what comes later
		defer m.Subscribe(func(s Status) { heard <- s.State })()
		m.Pause()
		m.Resume()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(50 * ms)
		synctest.Wait()
		if len(heard) > 0 {
			t.Errorf("heard %v before the first result", <-heard)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(heard); n != 1 {
			t.Fatalf("heard of %d states, want 1", n)
		}
		if s := <-heard; s != Up {
			t.Errorf("heard %v, want up", s)
		}
		var late State
		m.Subscribe(func(s Status) { late = s.State })
		synctest.Wait()
		if late != Up {
			t.Errorf("a later consumer heard %v, want the present state", late)
		}
		cancel()
		<-done
	})
}

func TestWhyDown(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Status
		want error
	}{
		{"unknown", Status{}, nil},
		{"up", Status{State: Up}, nil},
		{"up, and the latest probe has failed", Status{State: Up, Err: errTest}, nil},
		{"down", Status{State: Down, Err: errTest}, errTest},
		{"down, and the latest probe has succeeded", Status{State: Down}, errNotYet},
	} {
		if got := tt.s.WhyDown(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
