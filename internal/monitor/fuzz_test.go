package monitor

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// FuzzObserve: no frame of any link type makes the Watcher panic, and what it says can be
// printed.
func FuzzObserve(f *testing.F) {
	v4, v6 := newRouter(a1, 120), newRouter("fe80::1", 120)
	for _, frame := range []Frame{
		v4.frame(f, 0), v6.frame(f, 0), tagged(v4.frame(f, 0), 10),
		newRouter(a1, 120, version2("d0cker")).frame(f, 0),                                            // PASS
		newRouter(a1, 120, version2(""), func(r *router) { r.ah, r.AuthType = true, 2 }).frame(f, 0),  // AH
		newRouter(a1, 120, signed(7, epoch)).frame(f, 0),                                              // HMAC
		newRouter(a1, 120, func(r *router) { r.options = []byte{148, 4, 0, 0} }).frame(f, 0),          // router alert
		arp(0, 1, [6]byte{2}, "192.0.2.100", "192.0.2.100"), neighbor(0, [6]byte{2}, "2001:db8::100"), // claims
		carp(0, a3, 51), // another protocol
	} {
		f.Add(uint8(0), frame.Data, frame.Data)
	}
	f.Add(uint8(3), v4.packet(f), v6.packet(f)) // raw
	links := []layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2, layers.LinkTypeRaw}
	f.Fuzz(func(t *testing.T, link uint8, first, second []byte) {
		w, p := NewWatcher(), printer{out: io.Discard}
		w.Observe(v4.frame(t, 0)) // an address to watch
		for i, data := range [][]byte{first, second, first} {
			frame := Frame{Time: at(float64(i)), Link: links[int(link)%len(links)], Data: data, Length: len(data)}
			for _, e := range w.Observe(frame) {
				if err := p.object(&e); err != nil {
					t.Error(err)
				}
				p.line(&e)
			}
		}
		w.Tick(at(1000))
		w.Finish()
		if err := p.summary(w.Summary()); err != nil {
			t.Error(err)
		}
	})
}

// FuzzFile: no file makes the monitor panic, hang, or take memory without bounds.
func FuzzFile(f *testing.F) {
	for _, name := range []string{"testdata/ah.pcap", "testdata/wrong-password.pcap"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	// pcapng: a section header, an interface of Ethernet, and an enhanced packet of 4 bytes
	f.Add([]byte{
		0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0,
		1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
		6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4, 36, 0, 0, 0,
	})
	f.Fuzz(func(t *testing.T, file []byte) {
		next, err := openFile(bytes.NewReader(file))
		w := NewWatcher()
		for began := time.Now(); err == nil; {
			var frame Frame
			if frame, err = next(); err == nil {
				w.Observe(frame)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Fatalf("%d bytes take %v", len(file), d)
			}
		}
		w.Finish()
	})
}
