package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestOwner: a host whose only address is the virtual one, priority 255. Its peer
// serves while it is away and gives way when it is back; and whatever becomes of
// havip, the address stays on the host that owns it.
func TestOwner(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	owner, other := l.MustHost("owner", vip.String()+"/24"), l.MustHost("lb02", "192.168.31.241/24")
	client := l.MustHost("client", "192.168.31.10/24")
	for _, h := range []*lab.Host{owner, other} {
		ln, err := h.Listen("tcp", ":8080")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, h.Name()) })}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
	}
	served := func(what string, by *lab.Host) {
		t.Helper()
		get := &http.Client{Timeout: time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return client.DialContext(ctx, network, addr)
			},
		}}
		lab.Eventually(t, 30*time.Second, what+": "+by.Name()+" serves", func() error {
			res, err := get.Get("http://" + net.JoinHostPort(vip.String(), "8080"))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err != nil || string(b) != by.Name() {
				return fmt.Errorf("%s serves (%v)", b, err)
			}
			return nil
		})
	}
	config := func(priority int) string {
		return fmt.Sprintf("vrrp:\n  - {name: VI_1, interface: eth0, vrid: 51, priority: %d, interval: 200ms, addresses: [192.168.31.250/24]}\n", priority)
	}
	// The owner's address as the operator has configured it, with nothing added.
	intact := func(what string) {
		t.Helper()
		link, err := owner.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		list, err := owner.Netlink().AddrList(link, syscall.AF_INET)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].IPNet.String() != vip.String()+"/24" || list[0].ValidLft != 1<<32-1 {
			t.Errorf("%s: the owner has the addresses %v", what, list)
		}
	}
	gone := watchDeletions(t, owner)

	backup := startReloader(t, other, config(110))
	lab.Until(t, 30*time.Second, "the peer, alone, takes the address", func() bool { return other.Holds(vip) })
	first := startReloader(t, owner, config(255))
	lab.Until(t, 30*time.Second, "the peer gives way to the owner", func() bool { return !other.Holds(vip) })
	served("both run", owner)

	if err := owner.Cut(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the peer takes over when the owner's link is cut", func() bool { return other.Holds(vip) })
	served("the link is cut", other)
	intact("the link is cut")
	if err := owner.Restore(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the peer gives way again", func() bool { return !other.Holds(vip) })
	served("the link is back", owner)

	if err := first.cmd.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	intact("SIGTERM")
	lab.Until(t, 30*time.Second, "the peer takes over when havip has ended", func() bool { return other.Holds(vip) })
	lab.Until(t, 30*time.Second, "the peer was told that the owner leaves", func() bool {
		return strings.Contains(backup.cmd.Output(), `cause="active router left"`)
	})

	second := startReloader(t, owner, config(255))
	lab.Until(t, 30*time.Second, "the peer gives way", func() bool { return !other.Holds(vip) })
	if err := second.cmd.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 30*time.Second, "the peer takes over when havip is killed", func() bool { return other.Holds(vip) })
	// By then the guard has done what there was to do.
	intact("SIGKILL")
	if n := gone.of(vip); n > 0 {
		t.Errorf("the owner's address was removed %d times", n)
	}
}
