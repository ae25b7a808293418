package vrrp

import (
	"slices"
	"testing"
	"time"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/lab"
)

// TestFrameConn: batches of frames arrive as they are, and cost no allocation.
func TestFrameConn(t *testing.T) {
	l := lab.New(t)
	h := l.MustHost("a", "192.0.2.251/24")
	wire, err := h.Capture("eth0", lab.Protocol(protocolVRRP))
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	var w packetWriter
	if err := h.Do(func() (err error) {
		w, err = openFrames(&netif{name: "eth0", index: link.Attrs().Index}, familyIPv4)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const n = 2*batchSize + 1
	ps := make([]Packet, n)
	for i := range ps {
		adv := Advertisement{
			Version: 3, VRID: uint8(i + 1), Priority: 100, Interval: time.Second, Addresses: addrs("192.0.2.250"),
			Source: host4, Destination: groupIPv4,
		}
		b, err := adv.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		ps[i] = Packet{
			Data: b, Source: host4, Destination: groupIPv4, TTL: 255, Protocol: protocolVRRP,
			HardwareSource: inet.VirtualMAC(uint8(i+1), false),
		}
	}
	send := func() {
		if sent, err := w.WriteBatch(ps); err != nil || sent != n {
			t.Fatalf("%d sent, error %v", sent, err)
		}
	}
	send()
	lab.Until(t, 20*time.Second, "all frames are on the wire", func() bool { return len(wire.Packets()) >= n })
	for i, f := range wire.Packets() {
		var b [frameHeaderMax]byte
		if want := append(slices.Clone(frameHeader(&b, &ps[i])), ps[i].Data...); !slices.Equal(f.Data, want) {
			t.Fatalf("frame %d\ngot  %x\nwant %x", i, f.Data, want)
		}
	}
	wire.Close() // it allocates
	if allocs := testing.AllocsPerRun(10, send); allocs != 0 {
		t.Errorf("%v allocations for %d frames", allocs, n)
	}
}
