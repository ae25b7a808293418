package h2

import (
	"crypto/rand"
	"time"

	"golang.org/x/net/http2"
)

// calmPing is how far apart pings are while a server sends nothing of a response. Servers of
// gRPC take more of them for an attack, and end the connection: they allow one in five
// minutes, and begin to count anew when they send something.
const calmPing = 310 * time.Second

// vitals is what is known of whether the server is alive. Conn.mu guards it.
type vitals struct {
	heard    time.Time // when the latest frame came
	asked    time.Time // when the latest ping went out; zero: it was answered
	pinged   bool      // nothing of a response has come since the latest ping
	doubtful bool      // a request was given up without a sign of life: no further one
	timer    *time.Timer
}

// hear notes a sign of life.
func (v *vitals) hear(now time.Time) { v.heard, v.asked, v.doubtful = now, time.Time{}, false }

// stop ends the watch.
func (v *vitals) stop() {
	if v.timer != nil {
		v.timer.Stop()
	}
}

// next returns how long nothing has to be done at the time now; 0 or less: a ping, or,
// lost, the end.
func (v *vitals) next(now time.Time, cfg *Config) (in time.Duration, lost bool) {
	switch {
	case !v.asked.IsZero():
		in = v.asked.Add(cfg.PingTimeout).Sub(now)
		return in, in <= 0
	case v.pinged:
		return v.heard.Add(max(calmPing, cfg.PingAfter)).Sub(now), false
	}
	return v.heard.Add(cfg.PingAfter).Sub(now), false
}

// watchLife begins to look after the server, or goes on: a stream has begun. c.mu is held.
func (c *Conn) watchLife() {
	if c.life.timer == nil {
		c.life.timer = time.AfterFunc(c.cfg.PingAfter, c.lookAfter)
		if len(c.streams) == 1 {
			// Silence counts from when there was something to say.
			c.life.heard = time.Now()
		}
	}
}

// lookAfter pings a server that is silent, and gives up one that does not answer. While no
// stream is open nobody has to be alive.
func (c *Conn) lookAfter() {
	c.mu.Lock()
	c.life.timer = nil
	if c.err != nil || len(c.streams) == 0 && c.life.asked.IsZero() {
		c.mu.Unlock()
		return
	}
	in, lost := c.life.next(time.Now(), &c.cfg)
	if lost {
		c.mu.Unlock()
		c.fail(errLost)
		return
	}
	if in <= 0 {
		c.pingLocked()
		in = c.cfg.PingTimeout
	}
	c.life.timer = time.AfterFunc(in, c.lookAfter)
	c.mu.Unlock()
}

// pingLocked asks the server for a sign of life.
func (c *Conn) pingLocked() {
	var data [8]byte
	_, _ = rand.Read(data[:])
	c.life.asked, c.life.pinged = time.Now(), true
	c.queue(http2.FramePing, 0, 0, data[:]...)
}

// doubtLocked is called when a stream is given up. If nothing has come since it began, a
// while ago, the server may be gone: it gets no further request before it shows that it is
// not.
func (c *Conn) doubtLocked(s *Stream) {
	long := time.Since(s.started) > c.cfg.PingTimeout/10
	if !long || c.life.pinged || !c.life.heard.Before(s.started) {
		return
	}
	c.life.doubtful = true
	c.pingLocked()
	c.life.stop()
	c.life.timer = time.AfterFunc(c.cfg.PingTimeout, c.lookAfter)
}
