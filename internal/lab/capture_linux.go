package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// maxCapture bounds the memory of one capture, in bytes of frames.
const maxCapture = 256 << 20

// Capture records the frames that pass an interface. It is closed with the lab.
type Capture struct {
	conn *socket.Conn
	keep []func(Frame) bool
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	frames  []Frame
	size    int
	dropped int
	closed  bool
	err     error // why the reader ended, unless closed
}

// Capture records what passes one of the host's interfaces in both directions, if
// all of the filters keep it. It returns once it records.
func (h *Host) Capture(ifname string, keep ...func(Frame) bool) (*Capture, error) {
	c, err := h.lab.capture(h.namespace, ifname, keep)
	if err != nil {
		return nil, h.errorf("capture: %w", err)
	}
	return c, nil
}

// Capture records what the hosts on the segment send to one another, each frame
// once, if all of the filters keep it. It returns once it records.
func (s *Segment) Capture(keep ...func(Frame) bool) (*Capture, error) {
	c, err := s.lab.capture(s.lab.namespace, s.bridge.Name, keep)
	if err != nil {
		return nil, fmt.Errorf("lab: segment %s: capture: %w", s.bridge.Name, err)
	}
	return c, nil
}

func (l *Lab) capture(n namespace, ifname string, keep []func(Frame) bool) (*Capture, error) {
	link, err := n.nl.LinkByName(ifname)
	if err != nil {
		return nil, err
	}
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "capture", &socket.Config{NetNS: int(n.ns)})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = listen(conn, link.Attrs().Index)
	if l.closed {
		err = net.ErrClosed
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Capture{conn: conn, keep: keep, done: make(chan struct{})}
	l.captures = append(l.captures, c)
	go c.read()
	return c, nil
}

// listen makes the socket receive all frames of an interface, with the kernel's timestamps,
// and on a bridge also frames that are not meant for it.
func listen(conn *socket.Conn, ifindex int) error {
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network byte order
	return errors.Join(
		conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		conn.SetReadBuffer(16<<20), // others than root get what the machine's limit allows
		conn.SetsockoptPacketMreq(unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC}),
		conn.Bind(&unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}),
	)
}

func (c *Capture) read() {
	defer close(c.done)
	buf, oob := make([]byte, 1<<18), make([]byte, 128)
	for {
		n, oobn, _, _, err := c.conn.Recvmsg(context.Background(), buf, oob, 0)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			// The interface went down, which is told once; it may come up again.
		case err != nil:
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.closed { // the error of a socket that is closed matches no ErrClosed
				c.err = err
			}
			return
		default:
			c.add(Frame{Time: timestamp(oob[:oobn]), Data: slices.Clone(buf[:n])})
		}
	}
}

// timestamp finds the kernel's receive time among the control messages.
func timestamp(oob []byte) time.Time {
	msgs, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

func (c *Capture) add(f Frame) {
	for _, keep := range c.keep {
		if !keep(f) {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += len(f.Data); c.size > maxCapture {
		c.dropped++
		return
	}
	c.frames = append(c.frames, f)
}

// Packets returns the frames recorded so far, oldest first.
func (c *Capture) Packets() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}

// Dropped returns how many frames passed that were not recorded: the kernel drops
// what is not read in time, and memory is bounded.
func (c *Capture) Dropped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Reading the kernel's count resets it.
	if st, err := c.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		c.dropped += int(st.Drops)
	}
	return c.dropped
}

// Close ends the recording; what was recorded can still be read. The error is
// what ended it before, if anything did.
func (c *Capture) Close() error {
	c.Dropped() // the kernel's count ends with the socket
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.conn.Close()
	<-c.done
	if c.err != nil {
		return fmt.Errorf("lab: capture: %w", c.err)
	}
	return nil
}
