package h2

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/net/http2"
)

// readFrames reads what the server sends until c ends.
func (c *Conn) readFrames() {
	err := c.readPreface()
	for err == nil {
		var f http2.Frame
		f, err = c.fr.ReadFrame()
		var bad http2.StreamError
		switch {
		case errors.As(err, &bad):
			err = nil
			c.mu.Lock()
			c.life.hear(time.Now())
			c.rejectLocked(c.streams[bad.StreamID], bad.Code, bad)
			c.mu.Unlock()
		case err == nil:
			err = c.handleFrame(f)
		}
	}
	var bad http2.ConnectionError
	if errors.As(err, &bad) {
		c.sayGoAway(http2.ErrCode(bad))
		if detail := c.fr.ErrorDetail(); detail != nil {
			err = fmt.Errorf("%w: %w", err, detail)
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.fail(err)
}

// readPreface reads the SETTINGS with which a server begins (RFC 9113 §3.4).
func (c *Conn) readPreface() error {
	f, err := c.fr.ReadFrame()
	if err == nil {
		settings, ok := f.(*http2.SettingsFrame)
		if ok && !settings.IsAck() {
			err = c.handleFrame(f)
		} else {
			err = fmt.Errorf("a frame %v comes before the SETTINGS", f.Header().Type)
		}
	}
	if err != nil {
		return fmt.Errorf("the server does not speak HTTP/2: %w", err)
	}
	close(c.ready)
	return nil
}

// sayGoAway tells the server what it has done wrong.
func (c *Conn) sayGoAway(code http2.ErrCode) {
	// Whoever holds wmu may wait for a server that reads nothing.
	if !c.wmu.TryLock() {
		return
	}
	defer c.wmu.Unlock()
	_ = c.fr.WriteGoAway(0, code, nil)
	_ = c.w.Flush()
}

// handleFrame does what a frame asks for. An error ends c.
func (c *Conn) handleFrame(f http2.Frame) error {
	c.mu.Lock()
	before := c.used
	err := c.handleLocked(f)
	idle := c.used == 0 && (before > 0 || c.leaving)
	c.mu.Unlock()
	if idle {
		c.rest()
	}
	return err
}

func (c *Conn) handleLocked(f http2.Frame) error {
	if c.flooded() {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	c.life.hear(time.Now())
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		c.life.pinged = false
		return c.handleHead(f)
	case *http2.DataFrame:
		c.life.pinged = false
		return c.handleData(f)
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.WindowUpdateFrame:
		return c.handleWindow(f)
	case *http2.RSTStreamFrame:
		return c.handleReset(f)
	case *http2.GoAwayFrame:
		c.handleGoAway(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.queue(http2.FramePing, http2.FlagPingAck, 0, f.Data[:]...)
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // RFC 9113 §8.4
	}
	return nil
}

// streamOf returns a stream that frames may come for; nil: it is over for us, and the frame
// counts for nothing.
func (c *Conn) streamOf(id uint32) (*Stream, error) {
	if id > c.began || id%2 == 0 {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol) // RFC 9113 §5.1
	}
	return c.streams[id], nil
}

// rejectLocked ends a stream whose server has done something wrong, and tells the server.
func (c *Conn) rejectLocked(s *Stream, code http2.ErrCode, err error) {
	if s == nil || s.err != nil {
		return
	}
	c.queueNumber(http2.FrameRSTStream, s.id, uint32(code))
	s.failLocked(fmt.Errorf("HTTP/2: %w", err), false)
}

func (c *Conn) handleHead(f *http2.MetaHeadersFrame) error {
	s, err := c.streamOf(f.StreamID)
	if s == nil || s.err != nil || err != nil {
		return err
	}
	if s.ended {
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	}
	if err := s.takeHead(f.Fields, f.StreamEnded(), f.Truncated); err != nil {
		c.rejectLocked(s, http2.ErrCodeProtocol, err)
		return nil
	}
	if f.StreamEnded() {
		c.endResponse(s)
	}
	signal(s.readable)
	return nil
}

func (c *Conn) handleData(f *http2.DataFrame) error {
	if c.receive -= int64(f.Length); c.receive < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	if c.taken += int(f.Length); c.taken >= connCredit {
		c.receive += int64(c.taken)
		c.queueNumber(http2.FrameWindowUpdate, 0, uint32(c.taken))
		c.taken = 0
	}
	s, err := c.streamOf(f.StreamID)
	if s == nil || s.err != nil || err != nil {
		return err
	}
	if s.ended {
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	}
	if s.receive -= int64(f.Length); s.receive < 0 {
		c.rejectLocked(s, http2.ErrCodeFlowControl, errors.New("more has come of the response than was allowed"))
		return nil
	}
	if err := s.takeData(f.Data()); err != nil {
		c.rejectLocked(s, http2.ErrCodeProtocol, err)
		return nil
	}
	s.creditLocked(int(f.Length) - len(f.Data())) // padding
	if f.StreamEnded() {
		if err := s.checkEnd(); err != nil {
			c.rejectLocked(s, http2.ErrCodeProtocol, err)
			return nil
		}
		c.endResponse(s)
	}
	signal(s.readable)
	return nil
}

// endResponse notes that the response is complete.
func (c *Conn) endResponse(s *Stream) {
	s.ended = true
	if s.sent {
		c.releaseLocked(s)
	}
}

func (c *Conn) handleSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	err := f.ForeachSetting(func(set http2.Setting) error {
		if err := set.Valid(); err != nil {
			return err
		}
		switch p := &c.peer; set.ID {
		case http2.SettingMaxConcurrentStreams:
			p.streams = set.Val
		case http2.SettingMaxFrameSize:
			p.frame = int(set.Val)
		case http2.SettingMaxHeaderListSize:
			p.header = uint64(set.Val)
		case http2.SettingHeaderTableSize:
			p.table, p.tableNews = set.Val, true
		case http2.SettingInitialWindowSize:
			more := int64(set.Val) - p.window
			p.window = int64(set.Val)
			for _, s := range c.streams {
				if s.send += more; s.send > math.MaxInt32 {
					return http2.ConnectionError(http2.ErrCodeFlowControl) // RFC 9113 §6.9.2
				}
				signal(s.writable)
			}
		}
		return nil
	})
	c.queue(http2.FrameSettings, http2.FlagSettingsAck, 0)
	return err
}

func (c *Conn) handleWindow(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.send += int64(f.Increment); c.send > math.MaxInt32 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		for _, s := range c.streams {
			signal(s.writable)
		}
		return nil
	}
	s, err := c.streamOf(f.StreamID)
	if s == nil || err != nil {
		return err
	}
	if s.send += int64(f.Increment); s.send > math.MaxInt32 {
		c.rejectLocked(s, http2.ErrCodeFlowControl, errors.New("a window is too large"))
	}
	signal(s.writable)
	return nil
}

// handleReset ends a stream. A server that has answered may say so that it wants nothing
// more of the request (RFC 9113 §8.1).
func (c *Conn) handleReset(f *http2.RSTStreamFrame) error {
	s, err := c.streamOf(f.StreamID)
	if s == nil || err != nil {
		return err
	}
	if s.ended {
		s.stopped = true
		signal(s.writable)
	} else {
		s.failLocked(fmt.Errorf("HTTP/2: the server has reset the stream: %v", f.ErrCode), f.ErrCode == http2.ErrCodeRefusedStream)
	}
	c.releaseLocked(s)
	return nil
}

// handleGoAway lets no further stream begin, and ends those that the server will not look
// at (RFC 9113 §6.8).
func (c *Conn) handleGoAway(f *http2.GoAwayFrame) {
	c.leaving = true
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.failLocked(fmt.Errorf("HTTP/2: the server takes no more requests on the connection: %v", f.ErrCode), true)
			c.releaseLocked(s)
		}
	}
}
