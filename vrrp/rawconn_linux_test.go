package vrrp

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/lab"
)

// rawPair opens a raw socket on each of two hosts, and returns a packet from the first.
func rawPair(t *testing.T, fam family) (a, b *rawConn, p Packet) {
	t.Helper()
	l := lab.New(t)
	var conns []*rawConn
	for _, addr := range []string{"192.0.2.1/24", "192.0.2.2/24"} {
		h := l.MustHost("host-"+addr[8:9], addr)
		var n network
		if err := h.Do(func() (err error) {
			n, err = openNetwork("eth0", fam)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.close)
		var nif netif
		lab.Until(t, 20*time.Second, "an address that is not tentative", func() bool {
			nif, _ = n.lookUp()
			return len(nif.addrs) > 0 && !nif.addrs[0].tentative
		})
		pc, err := n.openSocket(&nif, protocolVRRP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		conns = append(conns, pc.(*rawConn))
		if p.Data == nil {
			p = Packet{Source: nif.addrs[0].addr, Destination: groupIPv4, TTL: 255, Protocol: protocolVRRP, Data: make([]byte, 20)}
			if fam == familyIPv6 {
				p.Destination = groupIPv6
			}
		}
	}
	return conns[0], conns[1], p
}

// TestRawConn: a packet wakes a reader that waits, and wakes nobody else.
func TestRawConn(t *testing.T) {
	for _, fam := range []family{familyIPv4, familyIPv6} {
		t.Run(fam.String(), func(t *testing.T) {
			a, b, p := rawPair(t, fam)
			if err := withDescriptor(b.raw, func(fd int) error {
				if name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); name != "eth0" {
					t.Errorf("bound to %q: %v", name, err)
				}
				level, option := unix.IPPROTO_IP, unix.IP_TOS
				if fam == familyIPv6 {
					level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
				}
				if class, err := unix.GetsockoptInt(fd, level, option); class != inet.NetworkControl {
					t.Errorf("TOS or traffic class %#x: %v", class, err)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			ps := make([]Packet, readBatch)
			b.SetReadDeadline(past)
			if n, err := b.ReadBatch(ps); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("nothing was sent: %d, %v", n, err)
			}

			b.SetReadDeadline(time.Now().Add(time.Minute))
			began, sent := time.Now(), make(chan error)
			time.AfterFunc(50*time.Millisecond, func() {
				_, err := a.WriteBatch([]Packet{p})
				sent <- err
			})
			n, err := b.ReadBatch(ps)
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if n != 1 || err != nil {
				t.Fatalf("%d packets, %v; want 1", n, err)
			}
			if d := time.Since(began); d > 30*time.Second {
				t.Errorf("the packet was read after %v: it did not wake the reader", d)
			}
			if got := ps[0]; got.Source != p.Source || got.Destination != p.Destination || got.TTL != 255 ||
				got.Protocol != protocolVRRP || len(got.Data) != 20 {
				t.Errorf("got %+v", got)
			}
			if b.alarm.armed {
				t.Error("the alarm is armed although nobody waits")
			}

			// Some that wait are read at once, also when the deadline has passed.
			if n, err := a.WriteBatch([]Packet{p, p, p}); n != 3 || err != nil {
				t.Fatalf("sent %d, %v; want 3", n, err)
			}
			b.SetReadDeadline(past)
			total := 0
			lab.Until(t, 20*time.Second, "three packets", func() bool {
				n, _ := b.ReadBatch(ps)
				total += n
				return total == 3
			})

			// A packet of another interface is none.
			b.SetReadDeadline(time.Now().Add(time.Minute))
			b.rx.ifindex++
			if _, err := a.WriteBatch([]Packet{p}); err != nil {
				t.Fatal(err)
			}
			if n, err := b.ReadBatch(ps); n != 0 || err != nil {
				t.Errorf("of another interface: %d, %v; want 0", n, err)
			}

			b.SetReadDeadline(time.Time{})
			time.AfterFunc(50*time.Millisecond, func() { sent <- b.Close() })
			if n, err := b.ReadBatch(ps); n != 0 || err == nil {
				t.Errorf("on a closed socket: %d, %v", n, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if n, err := b.WriteBatch([]Packet{p}); n != 0 || err == nil {
				t.Errorf("on a closed socket: %d, %v", n, err)
			}
		})
	}
}

// TestRawConnErrors: the error is about the one packet that cannot be sent; the packets
// before it are sent.
func TestRawConnErrors(t *testing.T) {
	a, _, p := rawPair(t, familyIPv4)
	huge := p
	huge.Data = make([]byte, 70000)
	n, err := a.WriteBatch([]Packet{p, p, huge, p})
	if n != 2 || !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("sent %d, %v; want 2, EMSGSIZE", n, err)
	}
}

// TestRawConnAllocations: neither sending nor receiving nor a deadline allocates.
func TestRawConnAllocations(t *testing.T) {
	for _, fam := range []family{familyIPv4, familyIPv6} {
		t.Run(fam.String(), func(t *testing.T) {
			a, b, p := rawPair(t, fam)
			out, in := []Packet{p, p, p, p}, make([]Packet, readBatch)
			received := 0
			n := testing.AllocsPerRun(100, func() {
				if _, err := a.WriteBatch(out); err != nil {
					t.Fatal(err)
				}
				b.SetReadDeadline(time.Now().Add(time.Millisecond))
				for {
					n, err := b.ReadBatch(in)
					if received += n; err != nil {
						break
					}
				}
			})
			if n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
			if received < 400 {
				t.Errorf("%d packets received, want at least 400", received)
			}
		})
	}
}

// withDescriptor runs f on the socket.
func withDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}
