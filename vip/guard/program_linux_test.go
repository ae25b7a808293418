package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vip/guard"
)

// role in the environment makes the test binary a guarded program.
const role = "GUARD_TEST_ROLE"

func TestMain(m *testing.M) {
	r := os.Getenv(role)
	switch r {
	case late:
		if os.Args[0] != "havip-guard" {
			guard.MainLog(nil)
		}
	case formed:
		guard.MainLog(func(w io.Writer, form string) slog.Handler {
			return slog.NewJSONHandler(w, nil).WithAttrs([]slog.Attr{slog.String("form", form)})
		})
	}
	if r != "" {
		if err := guarded(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

// stderr in the environment is a file that a guarded program and its guard have
// as standard error.
const stderr = "GUARD_TEST_STDERR"

// late is the role of a program that calls MainLog, but not first.
const late = "late"

// formed is the role of a program whose log has a form of its own.
const formed = "formed"

// firstWords are what a guarded program says first: each that runs, once.
const firstWords = "a program that says something first"

const (
	vip4 = "192.0.2.10"
	vip6 = "2001:db8::10"
)

// Advertisements of priority 0 with VRID 51, as a router would prepare them.
var (
	farewell4 = []byte{0x31, 51, 0, 1, 0, 100, 0, 0, 192, 0, 2, 10}
	farewell6 = []byte{0x31, 51, 0, 0, 0, 100, 0, 0}
)

// guarded is a program that holds addresses and has a guard. It tells its
// progress on standard output.
func guarded(role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(firstWords)
	if path := os.Getenv(stderr); path != "" {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0) // in blocking mode
		if err != nil {
			return err
		}
		os.Stderr = os.NewFile(uintptr(fd), path)
	}
	if role == signalled {
		return guardedSignalled()
	}
	g, err := guard.Start(guard.Config{Form: "quoted"})
	if err != nil {
		return err
	}
	defer g.Close()
	switch role {
	case many:
		return guardedMany(ctx, g)
	case herald:
		return guardedHerald(ctx, g)
	}

	v4, _ := vip.ParseAddress(vip4 + "/24")
	v6, _ := vip.ParseAddress(vip6 + "/64")
	m, err := vip.NewManager(vip.Config{
		Interface: "eth0", Addresses: []vip.Address{v4, v6},
		Routes: []vip.Route{{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.254")}},
	})
	if err != nil {
		return err
	}
	go func() {
		if err := m.Acquire(ctx); err != nil {
			fmt.Println(err)
		}
		will := guard.Will{
			Requests: m.Removals().Requests,
			Packets: []guard.Packet{
				{Interface: 2, Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("224.0.0.18"), Protocol: 112, TTL: 255, Payload: farewell4},
				{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), Protocol: 112, TTL: 255, Payload: farewell4},
				{Interface: 2, Source: netip.MustParseAddr("2001:db8::1"), Destination: netip.MustParseAddr("ff02::12"), Protocol: 112, TTL: 255, Payload: farewell6},
				{Source: netip.MustParseAddr("2001:db8::1"), Destination: netip.MustParseAddr("2001:db8::2"), Protocol: 112, TTL: 255, Payload: farewell6},
			},
		}
		var errs []error
		for range 50 { // as a router that keeps its farewell fresh
			errs = append(errs, g.Set("router 51", will))
		}
		fmt.Println("ready", errors.Join(errs...))
		switch role {
		case "panic":
			panic("on purpose")
		case "exit":
			os.Exit(0)
		}
	}()
	return m.Run(ctx)
}
