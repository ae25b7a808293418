package vrrp

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestTakeOverNamesWhoWasHeardBefore: a router that was heard only while this one stayed
// out of the election is the one that was lost, too.
func TestTakeOverNamesWhoWasHeardBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, _ := lan.logged(t, 1, Config{Priority: 120}, slog.LevelInfo)
		b, ofB := lan.logged(t, 2, Config{Priority: 110}, slog.LevelInfo)
		release := b.Hold("check web has no result yet")
		time.Sleep(10 * time.Second)
		lan.cut(a.addr, true)
		time.Sleep(time.Second)
		release()
		time.Sleep(10 * time.Second)
		ofB.says(t, "to=Active", "level=WARN", `cause="no advertisement in time"`, "peer=192.0.2.1 peer_priority=120 last_heard=")

		// Who has not been heard for longer than it may be silent was lost before.
		release = b.Hold("check web is down")
		lan.cut(a.addr, false)
		time.Sleep(3 * time.Second)
		lan.cut(a.addr, true)
		time.Sleep(10 * time.Second)
		release()
		time.Sleep(10 * time.Second)
		ofB.says(t, "to=Active", "level=INFO", `cause="no advertisement in time"`, "last_heard=nobody")
	})
}
