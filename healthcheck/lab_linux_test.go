package healthcheck

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/havip/havip/internal/lab"
)

// checkIn makes one check inside a host, with a generous timeout.
func checkIn(t *testing.T, h *lab.Host, c Checker, timeout time.Duration) (err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if doErr := h.Do(func() error { err = c.Check(ctx); return nil }); doErr != nil {
		t.Fatal(doErr)
	}
	return err
}

// wantUp and wantDown make a check in a host.
func wantUp(t *testing.T, h *lab.Host, c Checker) {
	t.Helper()
	if err := checkIn(t, h, c, 30*time.Second); err != nil {
		t.Errorf("%+v: %v", c, err)
	}
}

func wantDown(t *testing.T, h *lab.Host, c Checker, is error) {
	t.Helper()
	err := checkIn(t, h, c, patience)
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Errorf("%+v: error is %v, want %v", c, err, is)
	}
	if errors.Is(err, ErrCannotRun) {
		t.Errorf("%+v: cannot run: %v", c, err)
	}
}

func TestICMPInLab(t *testing.T) {
	l := lab.New(t)
	a := l.MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	b := l.MustHost("b", "192.0.2.2/24", "2001:db8::2/64")
	v4, v6 := ICMP{Address: "192.0.2.2"}, ICMP{Address: "2001:db8::2"}
	// IPv6 addresses may be tentative for a while.
	waitFor(t, "IPv6", func() bool { return checkIn(t, a, v6, time.Second) == nil })

	t.Run("raw socket", func(t *testing.T) {
		wantUp(t, a, v4)
		wantUp(t, a, v6)
	})
	t.Run("ping socket", func(t *testing.T) {
		if err := a.Sysctl("net.ipv4.ping_group_range", "0 0"); err != nil {
			t.Fatal(err)
		}
		if err := a.Do(func() error {
			conn, to, err := listenICMP(netip.MustParseAddr("192.0.2.2"))
			if err == nil {
				conn.Close()
				if _, ping := to.(*net.UDPAddr); !ping {
					err = errors.New("the socket is raw though ping sockets are allowed")
				}
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		wantUp(t, a, v4)
		wantUp(t, a, v6)
	})
	t.Run("nobody there", func(t *testing.T) {
		wantDown(t, a, ICMP{Address: "192.0.2.77"}, isTimeout)
		wantDown(t, a, ICMP{Address: "2001:db8::77"}, isTimeout)
	})
	t.Run("no route", func(t *testing.T) {
		wantDown(t, a, ICMP{Address: "198.51.100.1"}, nil)
	})
	t.Run("target ignores requests", func(t *testing.T) {
		if err := b.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"); err != nil {
			t.Fatal(err)
		}
		wantDown(t, a, v4, isTimeout)
		if err := b.Sysctl("net.ipv4.icmp_echo_ignore_all", "0"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("link cut", func(t *testing.T) {
		if err := a.Cut(); err != nil {
			t.Fatal(err)
		}
		wantDown(t, a, v4, nil)
		if err := a.Restore(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the link", func() bool { return checkIn(t, a, v4, time.Second) == nil })
	})
}

// TestUnreachable: a router's ICMP error ends the wait at once, on either kind of socket,
// and does not count as this machine's fault.
func TestUnreachable(t *testing.T) {
	for _, kind := range []string{"raw socket", "ping socket"} {
		t.Run(kind, func(t *testing.T) {
			a := behindRouter(t)
			if kind == "ping socket" { // by default nobody may have one
				if err := a.Sysctl("net.ipv4.ping_group_range", "0 0"); err != nil {
					t.Fatal(err)
				}
			}
			// A router answers five IPv4 packets in a row (ip_error in the kernel's
			// net/ipv4/route.c): more must not be here.
			for _, c := range []Checker{
				ICMP{Address: "198.51.100.1"}, ICMP{Address: "2001:db8:100::1"}, // prohibited
				ICMP{Address: "198.51.100.2"}, ICMP{Address: "2001:db8:100::2"}, // no route
				TCP{Address: "198.51.100.1:80"}, TCP{Address: "[2001:db8:100::1]:80"},
				UDP{Address: "198.51.100.1:80"}, UDP{Address: "[2001:db8:100::1]:80"},
				UDP{Address: "198.51.100.2:80", AllowSilence: true}, UDP{Address: "[2001:db8:100::2]:80", AllowSilence: true},
				DNS{Server: "[2001:db8:100::1]:53", Name: "example.com"},
			} {
				err := checkIn(t, a, c, 30*time.Second)
				if err == nil || errors.Is(err, isTimeout) || errors.Is(err, ErrCannotRun) {
					t.Errorf("%+v: error is %v, want what the router says", c, err)
				}
			}
		})
	}
}

func TestInterfaceInLab(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("h", "192.0.2.1/24")
	eth0 := Interface{Name: "eth0"}
	wantUp(t, h, eth0)
	wantUp(t, h, Interface{Name: "lo"})
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"no carrier", func() error { return h.Cut() }, "has no carrier"},
		{"carrier again", func() error { return h.Restore() }, ""},
		{"down", func() error { return h.SetLink("eth0", false) }, "is down"},
		{"up again", func() error { return h.SetLink("eth0", true) }, ""},
		{"deleted", func() error { return h.Command("ip", "link", "del", "eth0").Run() }, "no such network interface"},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var last error
		lab.Eventually(t, 30*time.Second, step.name, func() error {
			last = checkIn(t, h, eth0, time.Second)
			if (last == nil) != (step.want == "") {
				return errors.New("not yet")
			}
			return nil
		})
		if last != nil && last.Error() != "healthcheck: interface eth0: "+step.want &&
			last.Error() != "healthcheck: interface eth0: route ip+net: "+step.want {
			t.Errorf("%s: error is %v, want %s", step.name, last, step.want)
		}
	}
}

func TestInterfaceWatch(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("h", "192.0.2.1/24")
	c := Interface{Name: "eth0"}
	in := CheckerFunc(func(context.Context) error { return checkIn(t, h, c, 10*time.Second) })
	events, stop := watch(t, inHost{c, h})
	wantEvent(t, events, in, true)
	if err := h.Cut(); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, in, false)
	if err := h.Restore(); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, events, in, true)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// inHost runs Watch where the interface is.
type inHost struct {
	Watcher
	h *lab.Host
}

func (w inHost) Watch(ctx context.Context, changed func()) error {
	return w.h.Do(func() error { return w.Watcher.Watch(ctx, changed) })
}

// TestWithoutPrivileges: a probe that the process may not make is told from a target that
// is down.
func TestWithoutPrivileges(t *testing.T) {
	lab.Need(t, "setpriv")
	h := lab.New(t).MustHost("h", "192.0.2.1/24", "2001:db8::1/64")
	cmd := h.Command("setpriv", "--bounding-set=-net_raw", os.Args[0])
	cmd.Env = []string{checkEnv + "=1"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	want := "healthcheck.ICMP: true\nhealthcheck.Gateway: true\nhealthcheck.Gateway: true\n"
	if got := cmd.Output(); got != want {
		t.Errorf("cannot run without CAP_NET_RAW:\n%swant:\n%s", got, want)
	}
}

func TestEchoJudge(t *testing.T) {
	to := netip.MustParseAddr("192.0.2.2")
	other := netip.MustParseAddr("192.0.2.3")
	e := newEcho(to)
	marshal := func(typ icmp.Type, body icmp.MessageBody) []byte {
		b, err := (&icmp.Message{Type: typ, Body: body}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	reply := &icmp.Echo{ID: 1, Seq: 2, Data: e.token[:]}
	quote := func(dst netip.Addr, request []byte) *icmp.DstUnreach {
		header := make([]byte, ipv4.HeaderLen)
		header[0] = 0x45
		copy(header[16:], dst.AsSlice())
		return &icmp.DstUnreach{Data: append(header, request...)}
	}
	tests := []struct {
		name string
		b    []byte
		from netip.Addr
		done bool
		fail bool
	}{
		{"reply", marshal(ipv4.ICMPTypeEchoReply, reply), to, true, false},
		{"reply from someone else", marshal(ipv4.ICMPTypeEchoReply, reply), other, false, false},
		{"reply to another request", marshal(ipv4.ICMPTypeEchoReply, &icmp.Echo{Data: make([]byte, 16)}), to, false, false},
		{"oversized", marshal(ipv4.ICMPTypeEchoReply, &icmp.Echo{Data: append(e.token[:], make([]byte, 60000)...)}), to, false, false},
		{"cut to our buffer", marshal(ipv4.ICMPTypeEchoReply, &icmp.Echo{Data: append(e.token[:], make([]byte, 60000)...)})[:2048], to, false, false},
		{"our own request", marshal(ipv4.ICMPTypeEcho, reply), to, false, false},
		{"unreachable", marshal(ipv4.ICMPTypeDestinationUnreachable, quote(to, e.marshalRequest())), other, true, true},
		{"someone else is unreachable", marshal(ipv4.ICMPTypeDestinationUnreachable, quote(other, e.marshalRequest())), other, false, false},
		{"another request's target is unreachable", marshal(ipv4.ICMPTypeDestinationUnreachable, quote(to, newEcho(to).marshalRequest()[:8])), other, false, false},
		{"quote is cut", marshal(ipv4.ICMPTypeDestinationUnreachable, quote(to, nil)), other, false, false},
		{"IPv6 message", marshal(ipv6.ICMPTypeEchoReply, reply), to, false, false},
		{"junk", []byte{1, 2, 3}, to, false, false},
	}
	for _, test := range tests {
		done, err := e.judgeMessage(test.b, test.from)
		if done != test.done || (err != nil) != test.fail {
			t.Errorf("%s: done %v, error %v", test.name, done, err)
		}
	}
}

func FuzzEchoJudge(f *testing.F) {
	v4, v6 := newEcho(netip.MustParseAddr("192.0.2.2")), newEcho(netip.MustParseAddr("2001:db8::2"))
	f.Add(false, v4.marshalRequest())
	f.Add(true, v6.marshalRequest())
	f.Add(false, append([]byte{0}, v4.marshalRequest()[1:]...))  // echo reply
	f.Add(true, append([]byte{129}, v6.marshalRequest()[1:]...)) // echo reply
	f.Add(false, []byte("\x03\x01\x00\x00\x00\x00\x00\x00\x4f")) // unreachable, with a header longer than the quote
	f.Fuzz(func(t *testing.T, six bool, b []byte) {
		e := v4
		if six {
			e = v6
		}
		if done, err := e.judgeMessage(b, e.to); !done && err != nil {
			t.Errorf("%x: an error without an end: %v", b, err)
		}
	})
}

// A server on this host is down, and its port is the one that the kernel gives to whoever
// connects: a check that is connected to itself is down, and does not keep the server from
// starting.
func TestSelfConnectIsARefusal(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.1/24")
	if err := h.Sysctl("net.ipv4.ip_local_port_range", "40000 40000"); err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.1:40000"
	for _, c := range []Checker{
		TCP{Address: address},
		TCP{Address: address, Send: []byte("ping"), Expect: []byte("ping")},
		HTTP{URL: "http://" + address},
		SMTP{Address: address},
		UDP{Address: address, Send: []byte("ping"), Expect: []byte("ping")},
	} {
		wantDown(t, h, c, syscall.ECONNREFUSED)
	}
	for _, network := range []string{"tcp", "udp"} {
		var server io.Closer
		var err error
		if network == "tcp" {
			server, err = h.Listen(network, address)
		} else {
			server, err = h.ListenPacket(network, address)
		}
		if err != nil {
			t.Errorf("the server cannot start: %v", err)
			continue
		}
		server.Close()
	}
}
