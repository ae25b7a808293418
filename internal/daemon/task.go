package daemon

import (
	"context"
	"iter"
	"sync"
)

// task is a Run method under way. A nil task has ended.
type task struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// startTask runs run in a goroutine. failed is called if run ends by itself with an
// error, and not if stop has ended it.
func startTask(run func(context.Context) error, failed func(error)) *task {
	ctx, cancel := context.WithCancelCause(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}()
	return t
}

// stop ends the task and waits until run has returned.
func (t *task) stop() { t.stopFor(nil) }

// stopFor is stop with a reason, which the task finds as its context's cause.
func (t *task) stopFor(why error) {
	if t != nil {
		t.cancel(why)
		<-t.done
	}
}

// ended reports whether run has returned.
func (t *task) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// endsOf are the calls that end parts.
func endsOf[P interface{ stop() }](parts iter.Seq[P]) (ends []func()) {
	for p := range parts {
		ends = append(ends, p.stop)
	}
	return ends
}

// together makes all calls at the same time, and waits for them.
func together(calls []func()) {
	var wg sync.WaitGroup
	for _, f := range calls {
		wg.Go(f)
	}
	wg.Wait()
}
