package lab

import (
	"net"
	"net/netip"
	"testing"
)

// TestFreeAddress: no two addresses are the same, each can be listened on, and the kernel
// gives none of them away by default.
func TestFreeAddress(t *testing.T) {
	given := map[string]bool{}
	for range 100 {
		address := FreeAddress(t)
		if given[address] {
			t.Errorf("%s is given twice", address)
		}
		given[address] = true
		if p := netip.MustParseAddrPort(address).Port(); p < 1024 || p >= 32768 {
			t.Errorf("port %d", p)
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
}
