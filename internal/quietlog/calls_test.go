package quietlog

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestCalls: calls are made in order, one at a time, and Add never waits. While a call does
// not return, a bounded number of calls wait for it: the latest.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCalls()
		c.Wait() // for nothing
		let := make(chan struct{})
		var got, want []int
		c.Add(func() { <-let })
		synctest.Wait()
		for i := range 2 * maxCalls {
			c.Add(func() { got = append(got, i) })
			if i >= maxCalls {
				want = append(want, i)
			}
		}
		time.AfterFunc(time.Hour, func() { close(let) })
		c.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}
