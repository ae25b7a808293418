package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// maxCapture bounds the memory of one capture, in bytes of frames.
const maxCapture = 256 << 20

// Capture records the frames that pass an interface. It is closed with the lab.
type Capture struct {
	conn *packet.Conn
	keep []func(Frame) bool
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	frames  []Frame
	size    int
	more    chan struct{} // closed and replaced when frames grow
	dropped int
	closed  bool
	err     error // why the reader ended, unless closed
}

// Capture records what passes one of the host's interfaces in both directions, if
// all of the filters keep it. It returns once it records.
func (h *Host) Capture(ifname string, keep ...func(Frame) bool) (*Capture, error) {
	c, err := h.lab.capture(h.ns, ifname, keep)
	if err != nil {
		return nil, h.errorf("capture: %w", err)
	}
	return c, nil
}

// Capture records what the hosts on the segment send to one another, each frame
// once, if all of the filters keep it. It returns once it records.
func (s *Segment) Capture(keep ...func(Frame) bool) (*Capture, error) {
	c, err := s.lab.capture(s.lab.ns, s.name, keep)
	if err != nil {
		return nil, fmt.Errorf("lab: segment %s: capture: %w", s.name, err)
	}
	return c, nil
}

func (l *Lab) capture(ns netns.NsHandle, ifname string, keep []func(Frame) bool) (*Capture, error) {
	c := &Capture{keep: keep, done: make(chan struct{}), more: make(chan struct{})}
	err := within(ns, func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		c.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.prepare()
	if err != nil {
		c.conn.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.conn.Close()
		return nil, net.ErrClosed
	}
	l.captures = append(l.captures, c)
	go c.read(raw)
	return c, nil
}

// prepare asks for the kernel's timestamps, a large buffer, and on a bridge for
// frames that are not meant for it.
func (c *Capture) prepare() (syscall.RawConn, error) {
	if err := c.conn.SetPromiscuous(true); err != nil {
		return nil, err
	}
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		// Root may exceed the machine's limit; others get what the limit allows.
		const buffer = 16 << 20
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
	})
	return raw, errors.Join(ctlErr, err)
}

func (c *Capture) read(raw syscall.RawConn) {
	defer close(c.done)
	buf, oob := make([]byte, 1<<18), make([]byte, 128)
	for {
		var n, oobn int
		var err error
		rawErr := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, 0)
			return !errors.Is(err, unix.EAGAIN)
		})
		// ENETDOWN is told once when the interface goes down; it may come up again.
		if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if rawErr != nil {
			err = rawErr // what recvmsg said last is that there is nothing yet
		}
		if err != nil {
			c.end(err)
			return
		}
		c.add(Frame{Time: timestamp(oob[:oobn]), Data: slices.Clone(buf[:n])})
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
	close(c.more)
	c.more = make(chan struct{})
}

func (c *Capture) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What a closed raw connection returns matches neither ErrClosed.
	if !c.closed {
		c.err = err
	}
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
	if st, err := c.conn.Stats(); err == nil {
		c.dropped += int(st.Drops)
	}
	return c.dropped
}

// WaitFor returns the first frame, recorded already or to come, that match
// accepts. The error tells how many frames were not it and how many were dropped.
func (c *Capture) WaitFor(ctx context.Context, match func(Frame) bool) (Frame, error) {
	for next := 0; ; {
		c.mu.Lock()
		frames, more := c.frames, c.more
		c.mu.Unlock()
		for ; next < len(frames); next++ {
			if match(frames[next]) {
				return frames[next], nil
			}
		}
		select {
		case <-more:
		case <-c.done:
			return Frame{}, fmt.Errorf("lab: capture ended after %d other frames: %w", next, errors.Join(net.ErrClosed, c.err))
		case <-ctx.Done():
			return Frame{}, fmt.Errorf("lab: %d other frames captured, %d dropped: %w", next, c.Dropped(), ctx.Err())
		}
	}
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
