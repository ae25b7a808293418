package vrrp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// announced plays a rival that advertises every so often until then, and returns
// when the machine asked for an Announce.
func (r *rig) announced(every, until time.Duration) (times []time.Duration) {
	r.Helper()
	rival := &Advertisement{Source: addrs("192.0.2.20")[0], Version: r.m.cfg.Version, Priority: 99, Interval: r.m.cfg.Interval}
	note := func(actions []Action) {
		for _, a := range actions {
			if a.Kind == Announce {
				times = append(times, r.now.Sub(epoch))
			}
		}
	}
	for next := r.now; next.Sub(epoch) <= until; next = next.Add(every) {
		for {
			deadline, _ := r.m.Deadline()
			if deadline.After(next) {
				break
			}
			r.now = deadline
			note(r.m.Tick(r.now))
		}
		r.now = next
		note(r.m.Receive(r.now, rival))
	}
	return times
}

// The neighbours of an Active router may believe a second Active router. The first
// announces its addresses at once, and again while the split lasts, but not in a flood,
// whatever the interval.
func TestSplitIsAnnounced(t *testing.T) {
	for _, cfg := range []Config{
		{Version: 2}, {Version: 3}, {Interval: 100 * time.Millisecond}, {Interval: 10 * time.Millisecond},
	} {
		r := active(t, cfg)
		at := r.since(1500 * time.Millisecond)
		r.at(at)
		times := r.announced(r.m.cfg.Interval, at+31*time.Second)
		if len(times) != 7 || times[0] != at {
			t.Fatalf("%+v: announced at %v, want at %v and each 5 s", cfg, times, at)
		}
		for i := range times[1:] {
			if gap := times[i+1] - times[i]; gap < splitAnnounce || gap > splitAnnounce+r.m.cfg.Interval {
				t.Errorf("interval %v: announced %v after the last time, want 5 s", r.m.cfg.Interval, gap)
			}
		}
		if !r.m.split {
			t.Error("no split is seen")
		}
		// The split ends: one more announcement, and no others.
		for range 300 {
			r.now, _ = r.m.Deadline()
			if got := script(r.m.Tick(r.now)); strings.Contains(got, "Announce") {
				times = append(times, r.now.Sub(epoch))
			}
		}
		if r.m.split || len(times) != 8 {
			t.Errorf("interval %v: split %v, %d announcements, want 8", r.m.cfg.Interval, r.m.split, len(times))
		}
	}
	t.Run("a predecessor is no rival", func(t *testing.T) {
		r := active(t, Config{})
		r.hear(r.since(500*time.Millisecond), 20, 99, "Send 100")
		if r.m.split {
			t.Error("split")
		}
	})
	t.Run("a rival that leaves", func(t *testing.T) {
		r := active(t, Config{})
		r.hear(r.since(1500*time.Millisecond), 20, 0, "Send 100, Announce")
		if r.m.split {
			t.Error("split")
		}
	})
	t.Run("a rival that advertises less often", func(t *testing.T) {
		r := active(t, Config{Interval: 10 * time.Millisecond})
		at := r.since(1500 * time.Millisecond)
		for i := range 3 {
			r.at(at + time.Duration(i)*time.Second)
			r.hearInterval(r.since(0), 20, 99, time.Second, []string{"Send 100, Announce", "Send 100", "Send 100"}[i])
			if !r.m.split {
				t.Error("no split is seen")
			}
		}
	})
	t.Run("stepping down", func(t *testing.T) {
		r := active(t, Config{})
		r.hear(r.since(1500*time.Millisecond), 20, 99, "Send 100, Announce")
		r.hear(r.since(0), 20, 101, "Send 100, Release, Active>Backup (another router has the better claim)")
		if r.m.split {
			t.Error("split")
		}
	})
}

// A split is logged once, at once, in one line with all that helps to find the rival. So is
// its end. A hand-over is no split.
func TestSplitIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Priority: 120, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a.Router.handler = neighbours{a.handler, netip.MustParseAddr("192.0.2.2"), net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		b := lan.node(t, 2, Config{Priority: 110})
		time.Sleep(10 * time.Second)
		b.is(Active)
		a.run()
		time.Sleep(10 * time.Second)
		a.is(Active) // it has preempted b
		if got := log.Lines("split"); len(got) != 0 {
			t.Errorf("a hand-over: %q", got)
		}
		lan.cut(b.addr, true)
		time.Sleep(10 * time.Second)
		b.is(Active)
		refuse := func(f func(Packet) error) {
			lan.Mu.Lock()
			defer lan.Mu.Unlock()
			a.port().Refuse = f
		}
		refuse(func(Packet) error { return io.ErrClosedPipe }) // b hears nothing
		lan.cut(b.addr, false)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		want := `msg="split: another router is Active as well" router=` + a.cfg.Name + " from=192.0.2.2 mac=02:00:00:00:00:09 priority=110 own=120"
		if got := log.Lines("split"); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("log %q, want %q", got, want)
		}
		if s := a.Status(); s.Rival == nil || s.Rival.Address != b.addr || s.Rival.Priority != 110 || s.Counters.Splits != 1 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Minute)
		if got := log.Lines("split"); len(got) != 1 {
			t.Errorf("log %q, want one line", got)
		}
		refuse(nil)
		time.Sleep(5 * time.Second)
		b.is(Backup)
		if got := log.Lines("split: over"); len(got) != 1 || !strings.Contains(got[0], "from=192.0.2.2 state=Active") {
			t.Errorf("log %q", got)
		}
		if s := a.Status(); s.Rival != nil {
			t.Errorf("status %+v", s)
		}
	})
}

// TestSplitThatComesBack: a split that begins again so soon that the log is spared another
// line is logged when it has lasted. The last line is how it stands.
func TestSplitThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		a, log := lan.logged(t, 1, Config{Priority: 120, Interval: 100 * time.Millisecond}, slog.LevelInfo)
		b := lan.node(t, 2, Config{Priority: 110, Interval: 100 * time.Millisecond})
		time.Sleep(10 * time.Second)
		a.is(Active)
		refuse := func(f func(Packet) error) {
			lan.Mu.Lock()
			defer lan.Mu.Unlock()
			a.port().Refuse = f
		}
		refuse(func(Packet) error { return io.ErrClosedPipe }) // b hears nothing
		time.Sleep(time.Second)
		refuse(nil)
		time.Sleep(time.Second)
		b.is(Backup)
		if got := log.Lines("split"); len(got) != 2 || !strings.Contains(got[1], "split: over") {
			t.Fatalf("log %q, want the split and its end", got)
		}
		refuse(func(Packet) error { return io.ErrClosedPipe })
		time.Sleep(time.Minute)
		got := log.Lines("split")
		if len(got) != 3 || !strings.Contains(got[2], "split: another router is Active as well") || !strings.Contains(got[2], " times=1") {
			t.Errorf("log %q, want the split once more", got)
		}
		if n := a.Status().Counters.Splits; n != 2 {
			t.Errorf("%d splits, want 2", n)
		}
		refuse(nil)
		time.Sleep(time.Second)
		if got := log.Lines("split: over"); len(got) != 2 {
			t.Errorf("log %q, want both ends", got)
		}
	})
}

// neighbours is a Handler that knows one neighbour, and waits in vain for all others.
type neighbours struct {
	Handler
	addr netip.Addr
	mac  net.HardwareAddr
}

func (n neighbours) HardwareAddr(ctx context.Context, addr netip.Addr) net.HardwareAddr {
	if addr == n.addr {
		return n.mac
	}
	<-ctx.Done()
	return nil
}

// TestSplitRivalUnknown: the log line does not wait for a rival that does not answer the
// request for its hardware address.
func TestSplitRivalUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := newFakeLAN()
		var log lockedBuffer
		a := lan.prepare(t, 1, Config{Priority: 120, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a.Router.handler = neighbours{Handler: a.handler}
		b := lan.node(t, 2, Config{Priority: 110})
		lan.cut(b.addr, true)
		a.run()
		time.Sleep(10 * time.Second)
		a.is(Active)
		b.is(Active)
		lan.cut(b.addr, false)
		time.Sleep(1100*time.Millisecond + neighbourTime)
		synctest.Wait()
		if got := log.Lines("split: another"); len(got) > 1 || len(got) == 1 && !strings.Contains(got[0], "mac=unknown") {
			t.Errorf("log %q", got)
		}
		b.is(Backup)
		stopped := time.Now()
		a.stop()
		if err := <-a.done; err != nil || time.Since(stopped) > neighbourTime {
			t.Errorf("Run returned %v after %v", err, time.Since(stopped))
		}
		a.done <- nil
	})
}
