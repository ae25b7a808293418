package vrrp

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/internal/lab"
)

// ipPacket puts the IP header before p, as the kernel would.
func ipPacket(p *Packet) []byte {
	if p.Header != nil {
		return append(append([]byte(nil), p.Header...), p.Data...)
	}
	if p.Source.Is6() {
		h := []byte{0x6c, 0, 0, 0, 0, byte(len(p.Data)), p.Protocol, p.TTL}
		return append(append(append(h, p.Source.AsSlice()...), p.Destination.AsSlice()...), p.Data...)
	}
	h := []byte{0x45, inet.NetworkControl, 0, byte(inet.IPv4Len + len(p.Data)), 0, 1, 0, 0, p.TTL, p.Protocol, 0, 0}
	h = append(append(h, p.Source.AsSlice()...), p.Destination.AsSlice()...)
	binary.BigEndian.PutUint16(h[inet.IPv4Checksum:], inet.Checksum(inet.Sum(0, h)))
	return append(h, p.Data...)
}

// writeCapture writes IP packets to a file as tcpdump would.
func writeCapture(t *testing.T, packets [][]byte) string {
	t.Helper()
	const linkTypeRaw = 101
	var b []byte
	for _, v := range []uint32{0xa1b2c3d4, 2<<16 | 4, 0, 0, 65535, linkTypeRaw} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for _, p := range packets {
		for _, v := range []int{0, 0, len(p), len(p)} {
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
		b = append(b, p...)
	}
	path := filepath.Join(t.TempDir(), "advertisements.pcap")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// decoded runs a decoder and returns its output, one packet a line.
func decoded(t *testing.T, program string, args ...string) []string {
	t.Helper()
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return strings.Split(strings.TrimRight(string(out), "\n"), "\n")
}

// TestOthersDecode: tshark and tcpdump read what we send, find the checksums
// right and have nothing to complain about.
func TestOthersDecode(t *testing.T) {
	lab.Need(t, "tshark", "tcpdump")
	var packets [][]byte
	for _, k := range kinds {
		w := wireFor(t, configFor(t, k.adv, k.change...))
		if k.adv.Checksum == ChecksumMessage || w.hmac != nil && k.adv.Source.Is4() {
			continue // both compute the other form only, and over the trailer, too
		}
		packets = append(packets, ipPacket(send(t, w, 100, k.adv.Source, k.adv.Destination, clock)))
	}
	path := writeCapture(t, packets)

	fields := decoded(t, "tshark", "-r", path, "-T", "fields", "-E", "separator=/s",
		"-o", "ip.check_checksum:TRUE", "-e", "vrrp.checksum.status", "-e", "vrrp.virt_rtr_id", "-e", "vrrp.prio",
		"-e", "_ws.malformed", "-e", "_ws.expert.message")
	for i, line := range fields {
		if strings.TrimRight(line, " ") != "1 10 100" {
			t.Errorf("tshark on packet %d says %q, want good checksum, VRID 10, priority 100 and nothing else", i, line)
		}
	}
	text := decoded(t, "tcpdump", "-nnvvr", path)
	joined := strings.Join(text, "\n")
	if n := strings.Count(joined, "vrid 10, prio 100"); n != len(packets) || len(fields) != len(packets) {
		t.Errorf("%d and %d packets were read, want %d:\n%s", n, len(fields), len(packets), joined)
	}
	for _, complaint := range []string{"bad", "invalid", "truncated", "[|"} {
		if strings.Contains(joined, complaint) {
			t.Errorf("tcpdump complains:\n%s", joined)
		}
	}
}
