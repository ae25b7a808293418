package vip

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The messages are laid out as on a little-endian machine.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	newAddr4 = "02180000" + "02000000" + // AF_INET, /24, index 2
		"08000100c000020a" + "08000200c000020a" + // IFA_ADDRESS, IFA_LOCAL
		"0900030065746830" + "00000000" + // IFA_LABEL "eth0", padded
		"0800080080000000" // IFA_FLAGS permanent
	newAddr6 = "0a400000" + "03000000" +
		"1400010020010db8000000000000000000000010"
	pointToPoint = "02200000" + "02000000" +
		"08000100c0000263" + "08000200c000020a" // peer .99, ours .10
)

func TestParseChange(t *testing.T) {
	link := "00000100" + "02000000" + "43100100" + "00000000" + // ARPHRD_ETHER, index 2, up and running
		"0900030065746830" + "00000000"
	tests := map[string]struct {
		typ  uint16
		data string
		want change
		ok   bool
	}{
		"IPv4 added":     {unix.RTM_NEWADDR, newAddr4, change{kind: addressAdded, index: 2, addr: netip.MustParseAddr("192.0.2.10")}, true},
		"IPv4 removed":   {unix.RTM_DELADDR, newAddr4, change{kind: addressRemoved, index: 2, addr: netip.MustParseAddr("192.0.2.10")}, true},
		"IPv6 added":     {unix.RTM_NEWADDR, newAddr6, change{kind: addressAdded, index: 3, addr: netip.MustParseAddr("2001:db8::10")}, true},
		"point-to-point": {unix.RTM_NEWADDR, pointToPoint, change{kind: addressAdded, index: 2, addr: netip.MustParseAddr("192.0.2.10")}, true},
		"link":           {unix.RTM_NEWLINK, link, change{kind: linkChanged, name: "eth0", index: 2}, true},
		"link gone":      {unix.RTM_DELLINK, link, change{kind: linkChanged, name: "eth0", index: 2}, true},

		"empty":                     {typ: unix.RTM_NEWADDR},
		"cut header":                {typ: unix.RTM_NEWADDR, data: newAddr4[:10]},
		"no address":                {typ: unix.RTM_NEWADDR, data: newAddr4[:16]},
		"attribute of length 0":     {typ: unix.RTM_NEWADDR, data: newAddr4[:16] + "00000100c000020a"},
		"attribute beyond the end":  {typ: unix.RTM_NEWADDR, data: newAddr4[:16] + "ff000100c000020a"},
		"address of 5 bytes":        {typ: unix.RTM_NEWADDR, data: newAddr4[:16] + "09000100c000020a01"},
		"prefix longer than it can": {typ: unix.RTM_NEWADDR, data: "02300000" + newAddr4[8:]},
		"link without a name":       {typ: unix.RTM_NEWLINK, data: link[:32]},
		"something else":            {typ: unix.RTM_NEWROUTE, data: newAddr4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := parseChange(tt.typ, unhex(t, tt.data))
			if ok != tt.ok {
				t.Fatalf("understood: %v, want %v", ok, tt.ok)
			}
			if diff := cmp.Diff(tt.want, got, compare); ok && diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseChange(f *testing.F) {
	for _, s := range []string{"", newAddr4, newAddr6, pointToPoint} {
		f.Add(uint16(unix.RTM_NEWADDR), unhex(f, s))
		f.Add(uint16(unix.RTM_NEWLINK), unhex(f, s))
	}
	f.Add(uint16(unix.RTM_DELROUTE), []byte{unix.AF_INET, 24, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		c, ok := parseChange(typ, data)
		if ok && (c.kind == addressAdded || c.kind == addressRemoved) && !c.addr.IsValid() {
			t.Errorf("change without an address: %+v", c)
		}
	})
}

// TestRequestIsComparable: what is to be removed is told only if it is something
// else than before, so the same request is the same bytes.
func TestRequestIsComparable(t *testing.T) {
	k := &linuxKernel{}
	a := on(2, "192.0.2.10/24")
	removal := func() []byte { return k.record(func(k kernel) { k.remove(a) })[0] }
	if one, other := removal(), removal(); !bytes.Equal(one, other) {
		t.Errorf("%x and %x", one, other)
	}
}
