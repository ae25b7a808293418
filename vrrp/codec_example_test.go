package vrrp_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/havip/havip/vrrp"
)

// An advertisement becomes bytes and is read again.
func ExampleAdvertisement() {
	sent := vrrp.Advertisement{
		Source:      netip.MustParseAddr("192.0.2.251"),
		Destination: netip.MustParseAddr("224.0.0.18"),
		Version:     3,
		VRID:        10,
		Priority:    200,
		Interval:    time.Second,
		Addresses:   []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	b, err := sent.AppendBinary(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%x\n", b)

	got, err := vrrp.ParseAdvertisement(b, sent.Source, sent.Destination)
	fmt.Println(got.VRID, got.Priority, got.Interval, got.Addresses, err)

	b[2]--
	_, err = vrrp.ParseAdvertisement(b, sent.Source, sent.Destination)
	fmt.Println(err)
	// Output:
	// 310ac8010064a103c0000201
	// 10 200 1s [192.0.2.1] <nil>
	// vrrp: advertisement from 192.0.2.251: checksum 0xa103, want 0xa203
}
