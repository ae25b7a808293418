package vrrp

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeafRivalIsLogged: a rival that goes on though this router has the better claim
// does not hear it. The log names a likely cause, once, and the status while it
// lasts.
func TestDeafRivalIsLogged(t *testing.T) {
	for virtualMAC, cause := range map[bool]string{true: "xmit_base", false: "firewall"} {
		synctest.Test(t, func(t *testing.T) {
			lan := newFakeLAN()
			var log lockedBuffer
			a := lan.prepare(t, 1, Config{Priority: 120, VirtualMAC: virtualMAC, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			a.net.change(linkEvent{index: 1}, func(n *netif) { n.ethernet = true })
			a.run()
			b := lan.node(t, 2, Config{Priority: 110})
			time.Sleep(10 * time.Second)
			deaf := func(deaf bool) {
				lan.Mu.Lock()
				defer lan.Mu.Unlock()
				if a.port().Refuse = nil; deaf {
					a.port().Refuse = func(Packet) error { return io.ErrClosedPipe }
				}
			}
			check := func(what string, lines, status int) {
				t.Helper()
				synctest.Wait()
				got := log.Lines("does not hear this one")
				if len(got) != lines || lines > 0 && !strings.Contains(got[0], "from=192.0.2.2 cause=") {
					t.Errorf("virtual MAC %v, %s: %q, want %d lines", virtualMAC, what, got, lines)
				}
				if s := a.Status().Deaf; (s != "") != (status > 0) || status > 0 && !strings.Contains(s, cause) {
					t.Errorf("virtual MAC %v, %s: status %q", virtualMAC, what, s)
				}
			}
			// A split that heals by itself is no sign of that.
			lan.cut(b.addr, true)
			time.Sleep(10 * time.Second)
			b.is(Active)
			lan.cut(b.addr, false)
			time.Sleep(10 * time.Second)
			b.is(Backup)
			check("a split that heals", 0, 0)

			deaf(true)
			time.Sleep(6 * time.Second)
			b.is(Active)
			check("not heard for a moment", 0, 0)
			time.Sleep(20 * time.Second)
			check("not heard", 1, 1)
			time.Sleep(time.Minute)
			check("not heard for long", 1, 1)
			deaf(false)
			time.Sleep(10 * time.Second)
			b.is(Backup)
			check("heard again", 1, 0)
		})
	}
}
