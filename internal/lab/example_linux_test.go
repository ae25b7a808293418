package lab_test

import (
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// A test whose TestMain calls lab.Main makes its hosts, runs a peer in one of
// them and waits for what it does.
func Example() {
	_ = func(t *testing.T) {
		lab.Need(t, "keepalived")
		l := lab.New(t)
		lb := l.MustHost("lb-01", "192.168.31.240/24")
		adverts, err := lb.Capture("eth0", lab.Protocol(112))
		if err != nil {
			t.Fatal(err)
		}

		peer := lb.Command("keepalived", "-n", "-l", "-f", "keepalived.conf")
		peer.Private = true // its pid file
		if err := peer.Start(); err != nil {
			t.Fatal(err)
		}
		vip := netip.MustParseAddr("192.168.31.250")
		lab.Until(t, 20*time.Second, "lb-01 holds the VIP", func() bool { return lb.Holds(vip) })
		if err := os.WriteFile("adverts.pcap", adverts.PCAP(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A program enters first, and tells its user where that is not permitted.
func ExampleOpen() {
	if err := lab.Enter(); err != nil {
		log.Fatalf("%v; run as root instead", err)
	}
	l, err := lab.Open()
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	host, err := l.Host("lb-01", netip.MustParsePrefix("192.168.31.240/24"))
	if err != nil {
		log.Fatal(err)
	}
	ln, err := host.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, http.NotFoundHandler())
	client := http.Client{Transport: &http.Transport{DialContext: host.DialContext}}
	res, err := client.Get("http://192.168.31.240:8080/")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
}
