package lab

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// say sends a UDP datagram to port 9 of an address, listening or not.
func say(t *testing.T, from *Host, address, text string) {
	t.Helper()
	c, err := from.DialContext(t.Context(), "udp", net.JoinHostPort(address, "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// says matches the datagram that say sends.
func says(text string) func(Frame) bool {
	return func(f Frame) bool {
		_, _, proto, payload, ok := f.IP()
		return ok && proto == 17 && strings.HasSuffix(string(payload), text)
	}
}

func TestCapture(t *testing.T) {
	l := New(t)
	a, b := l.MustHost("a", "192.0.2.1/24"), l.MustHost("b", "192.0.2.2/24")
	c := l.MustHost("c", "192.0.2.3/24")
	lan, err := l.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	must := func(c *Capture, err error) *Capture {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	all := must(lan.Capture())
	udp := must(a.Capture("eth0", Protocol(17)))
	isARP := func(f Frame) bool { return f.EtherType() == 0x0806 }
	arp := must(b.Capture("eth0", isARP))
	other := must(c.Capture("eth0"))

	start := time.Now()
	say(t, a, "192.0.2.2", "one")
	say(t, b, "192.0.2.1", "two")
	for _, capture := range []*Capture{all, udp} {
		for _, text := range []string{"one", "two"} {
			f := await(t, capture, says(text))
			if f.Time.Before(start.Add(-time.Second)) || f.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("%s captured at %v, not between %v and now", text, f.Time, start)
			}
		}
	}
	await(t, arp, isARP)

	// Each frame is there once, filters hold, and c's port does not get what a and b send
	// to each other.
	if n := count(all, says("one")); n != 1 {
		t.Errorf("the segment's capture has the datagram %d times", n)
	}
	if n := count(udp, func(f Frame) bool { return !Protocol(17)(f) }); n != 0 {
		t.Errorf("the UDP capture has %d other frames", n)
	}
	if n := count(arp, func(f Frame) bool { return !isARP(f) }); n != 0 {
		t.Errorf("the ARP capture has %d other frames", n)
	}
	if n := count(other, says("two")); n != 0 {
		t.Errorf("c got the datagram from b to a %d times", n)
	}

	t.Run("an interface may go down and up", func(t *testing.T) {
		for _, up := range []bool{false, true} {
			if err := a.SetLink("eth0", up); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Restore(); err != nil {
			t.Fatal(err)
		}
		say(t, a, "192.0.2.2", "four")
		await(t, udp, says("four"))
	})
	t.Run("closing twice", func(t *testing.T) {
		if err := errors.Join(arp.Close(), arp.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, program := range []string{"tcpdump", "tshark"} {
		t.Run(program+" reads the file", func(t *testing.T) {
			Need(t, program)
			decode(t, all, program)
		})
	}
}

// TestCaptureCountsWhatItMisses holds the reader up until the kernel's buffer is full.
func TestCaptureCountsWhatItMisses(t *testing.T) {
	l := New(t)
	a := l.MustHost("a", "192.0.2.1/24")
	l.MustHost("b", "192.0.2.2/24")
	release := make(chan struct{})
	c, err := a.Capture("eth0", func(Frame) bool { <-release; return true })
	if err != nil {
		t.Fatal(err)
	}
	defer close(release)
	if err := c.conn.SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	dropped := 0
	Until(t, bound, "a frame is dropped", func() bool {
		say(t, a, "192.0.2.2", "hello")
		dropped = c.Dropped()
		return dropped > 0
	})
	if again := c.Dropped(); again < dropped {
		t.Errorf("dropped %d, then %d", dropped, again)
	}
}

// await returns the first frame that matches.
func await(t *testing.T, c *Capture, match func(Frame) bool) (f Frame) {
	t.Helper()
	Until(t, bound, "the frame is captured", func() bool {
		frames := c.Packets()
		i := slices.IndexFunc(frames, match)
		if i >= 0 {
			f = frames[i]
		}
		return i >= 0
	})
	return f
}

func count(c *Capture, match func(Frame) bool) (n int) {
	for _, f := range c.Packets() {
		if match(f) {
			n++
		}
	}
	return n
}

// decode expects the program to see both hosts in the capture.
func decode(t *testing.T, c *Capture, program string) {
	out, err := c.Decode(program, "-n", "-r")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")} {
		if !strings.Contains(out, a.String()) {
			t.Errorf("%s shows no %v:\n%s", program, a, out)
		}
	}
}
