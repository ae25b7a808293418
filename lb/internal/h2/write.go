package h2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// timedWriter writes to the connection. A server that takes nothing is given up.
type timedWriter struct{ c *Conn }

func (w timedWriter) Write(p []byte) (int, error) {
	_ = w.c.nc.SetWriteDeadline(time.Now().Add(w.c.cfg.WriteTimeout))
	return w.c.nc.Write(p)
}

// flush writes what is in c.w, and the control frames that wait. An error is that of c.w, and
// ends c. c.wmu is held.
func (c *Conn) flush() error {
	if err := c.w.Flush(); err != nil {
		c.fail(err)
		return err
	}
	if err := c.writeControl(); err != nil {
		c.fail(err) // what was in c.w has gone out nevertheless
	}
	return nil
}

// writeControl writes the control frames that wait. c.wmu is held.
func (c *Conn) writeControl() error {
	c.mu.Lock()
	control := c.control
	c.control = nil
	c.mu.Unlock()
	if len(control) == 0 {
		return nil
	}
	_, err := timedWriter{c}.Write(control)
	return err
}

// maxControl bounds the control frames that wait: a server that causes more of them than it
// takes is up to no good.
const maxControl = 64 << 10

// queue has a control frame written soon, by another goroutine: whoever reads frames must
// not wait for the server to read. c.mu is held.
func (c *Conn) queue(kind http2.FrameType, flags http2.Flags, stream uint32, payload ...byte) {
	if c.err != nil || len(c.control) > maxControl {
		return
	}
	n := len(payload)
	c.control = append(c.control, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	c.control = binary.BigEndian.AppendUint32(c.control, stream)
	c.control = append(c.control, payload...)
	if c.flushing {
		return
	}
	c.flushing = true
	go c.flushControl()
}

// queueNumber queues a frame whose payload is a number.
func (c *Conn) queueNumber(kind http2.FrameType, stream uint32, number uint32) {
	c.queue(kind, 0, stream, binary.BigEndian.AppendUint32(nil, number)...)
}

// flushControl writes control frames while there are any.
func (c *Conn) flushControl() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		c.mu.Lock()
		more := len(c.control) > 0 && c.err == nil
		c.flushing = more
		c.mu.Unlock()
		if !more {
			return
		}
		if err := c.flush(); err != nil {
			return
		}
	}
}

// flooded reports whether the server causes more control frames than it takes. c.mu is held.
func (c *Conn) flooded() bool { return len(c.control) > maxControl }

// sensitive are the fields that stay out of the table of HPACK: who sees the length of
// what others send next must not be able to guess them (RFC 7541 §7.1.3).
func sensitive(name string) bool {
	return name == "authorization" || name == "proxy-authorization" || name == "cookie"
}

// writeFields writes fields as a HEADERS frame, and CONTINUATION frames if it takes more than
// one. c.wmu is held.
func (c *Conn) writeFields(id uint32, fields []hpack.HeaderField, end bool) error {
	c.mu.Lock()
	size := c.peer.frame
	if c.peer.tableNews {
		c.peer.tableNews = false
		c.enc.SetMaxDynamicTableSize(min(c.peer.table, 4096))
	}
	c.mu.Unlock()
	c.block.Reset()
	for _, f := range fields {
		f.Sensitive = f.Sensitive || sensitive(f.Name)
		_ = c.enc.WriteField(f)
	}
	rest := c.block.Bytes()
	piece := rest[:min(size, len(rest))]
	rest = rest[len(piece):]
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: piece, EndStream: end, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		piece = rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		_ = c.fr.WriteContinuation(id, len(rest) == 0, piece)
	}
	return c.flush()
}

// fieldsSize is the size of a header list (RFC 9113 §6.5.2).
func fieldsSize(fields []hpack.HeaderField) (n uint64) {
	for _, f := range fields {
		n += uint64(f.Size())
	}
	return n
}
