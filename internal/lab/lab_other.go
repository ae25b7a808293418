//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
)

// What follows mirrors the Linux files, where it is documented. Without Linux no
// lab can be opened, so that no method of a Host, Cmd or Capture is ever reached.

var errUnsupported = fmt.Errorf("lab: needs Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported)

type (
	Lab     struct{}
	Segment struct{}
	Host    struct{}
	Capture struct{}
	Cmd     struct {
		Dir     string
		Env     []string
		Stdout  io.Writer
		Private bool
	}
)

func Main(m interface{ Run() int }) { os.Exit(m.Run()) }
func Enter() error                  { return errUnsupported }

func New(t TB) *Lab {
	t.Helper()
	Lacking(t, errUnsupported.Error())
	return nil
}

func Open() (*Lab, error)                                           { return nil, errUnsupported }
func (*Lab) Close() error                                           { return errUnsupported }
func (*Lab) Segment(string) (*Segment, error)                       { return nil, errUnsupported }
func (*Lab) Host(string, ...netip.Prefix) (*Host, error)            { return nil, errUnsupported }
func (*Lab) MustHost(string, ...string) *Host                       { panic(errUnsupported) }
func (*Segment) Capture(...func(Frame) bool) (*Capture, error)      { return nil, errUnsupported }
func (*Host) Name() string                                          { return "" }
func (*Host) Netlink() *netlink.Handle                              { return nil }
func (*Host) Attach(string, *Segment, ...netip.Prefix) error        { return errUnsupported }
func (*Host) AddAddr(string, netip.Prefix) error                    { return errUnsupported }
func (*Host) SetLink(string, bool) error                            { return errUnsupported }
func (*Host) Cut(...string) error                                   { return errUnsupported }
func (*Host) Restore(...string) error                               { return errUnsupported }
func (*Host) Isolate(...string) error                               { return errUnsupported }
func (*Host) Rejoin(...string) error                                { return errUnsupported }
func (*Host) Addrs() ([]netip.Prefix, error)                        { return nil, errUnsupported }
func (*Host) Holds(netip.Addr) bool                                 { return false }
func (*Host) Do(func() error) error                                 { return errUnsupported }
func (*Host) Sysctl(string, string) error                           { return errUnsupported }
func (*Host) Listen(string, string) (net.Listener, error)           { return nil, errUnsupported }
func (*Host) ListenPacket(string, string) (net.PacketConn, error)   { return nil, errUnsupported }
func (*Host) Capture(string, ...func(Frame) bool) (*Capture, error) { return nil, errUnsupported }
func (*Host) Kill() error                                           { return errUnsupported }
func (*Host) Command(string, ...string) *Cmd                        { return &Cmd{} }
func (*Cmd) String() string                                         { return "" }
func (*Cmd) Start() error                                           { return errUnsupported }
func (*Cmd) Run() error                                             { return errUnsupported }
func (*Cmd) Done() <-chan struct{}                                  { return nil }
func (*Cmd) Wait() error                                            { return errUnsupported }
func (*Cmd) Pid() int                                               { return 0 }
func (*Cmd) Signal(os.Signal) error                                 { return errUnsupported }
func (*Cmd) Kill()                                                  {}
func (*Cmd) Stop(time.Duration) error                               { return errUnsupported }
func (*Cmd) Output() string                                         { return "" }
func (*Capture) Dropped() int                                       { return 0 }
func (*Capture) Packets() []Frame                                   { return nil }
func (*Capture) WaitFor(context.Context, func(Frame) bool) (Frame, error) {
	return Frame{}, errUnsupported
}
func (*Capture) Close() error                             { return errUnsupported }
func (*Capture) Decode(string, ...string) (string, error) { return "", errUnsupported }

func (*Host) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errUnsupported
}
