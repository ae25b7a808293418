package vip

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// role in the environment makes the test binary a program that holds addresses
// until it is killed, or frozen and woken up.
const role = "VIP_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		if err := hold(); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

func hold() error {
	v4, _ := ParseAddress(vip4 + "/24")
	v6, _ := ParseAddress(vip6 + "/64")
	m, err := NewManager(Config{
		Interface: "eth0", Addresses: []Address{v4, v6}, Lease: LeaseFor(100*time.Millisecond, 3),
		OnLost: func(err error) { fmt.Println("lost:", err) },
	})
	if err != nil {
		return err
	}
	go func() { fmt.Println("acquired:", m.Acquire(context.Background())) }()
	return m.Run(context.Background())
}

// holder starts the program and waits until it holds its addresses.
func holder(t *testing.T) (*lab.Host, *lab.Cmd) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := lab.New(t).MustHost("a", "192.0.2.1/24", "2001:db8::1/64")
	p := h.Command(self)
	p.Env = []string{role + "=hold"}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "the program holds its addresses", func() bool {
		return strings.Contains(p.Output(), "acquired: <nil>")
	})
	return h, p
}

func waitGone(t *testing.T, h *lab.Host) {
	t.Helper()
	began := time.Now()
	lab.Until(t, bound, "the addresses are gone", func() bool {
		return !h.Holds(netip.MustParseAddr(vip4)) && !h.Holds(netip.MustParseAddr(vip6))
	})
	t.Logf("the addresses were gone after %v", time.Since(began).Round(time.Millisecond))
}

// RFC 9568 §6.4.3: only one router answers for the addresses. A killed process
// loses its own without anyone's help.
func TestConformance49KilledIsBounded(t *testing.T) {
	h, p := holder(t)
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, h)
}

// So does a frozen one, and once it is woken up it does not take them back by
// itself: in the meantime they may be another's.
func TestNetnsFrozen(t *testing.T) {
	h, p := holder(t)
	if err := syscall.Kill(p.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitGone(t, h)
	if err := syscall.Kill(p.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, bound, "the program knows that it lost its addresses", func() bool {
		return strings.Contains(p.Output(), "lost: vip: eth0: not renewed for") &&
			strings.Contains(p.Output(), ErrLapsed.Error())
	})
	wantHeld(t, h, "192.0.2.1/24", "2001:db8::1/64")
}
