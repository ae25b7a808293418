package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// heartbeat is the longest silence of a stream: so a client, and whatever is between,
	// knows that it lives.
	heartbeat = 15 * time.Second
	// takeTimeout is for a client to take what has come. One that is slower is cut off: it
	// asks again for what it lacks, and nothing is kept for it meanwhile.
	takeTimeout = 5 * time.Second
)

// stream sends events as they come, until the client leaves.
func (s *Server) stream(c *call) error {
	if err := c.wantQuery("after"); err != nil {
		return err
	}
	after, err := c.after(s.instance)
	if err != nil {
		return err
	}
	gate, most := c.client.gate, int64(maxReaders)
	if c.by.steers {
		most = maxStreams
	}
	if gate.streams.Add(1) > most {
		gate.streams.Add(-1)
		c.w.Header().Set("Retry-After", "10")
		return failf(http.StatusServiceUnavailable, "too many streams of events: at most %d: close some", most)
	}
	defer gate.streams.Add(-1)
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(gate.ctx, cancel)()
	done, err := s.turn(c) // what is kept may be long
	if err != nil {
		return err
	}
	text, last := s.streamed(after)
	done()
	// The client has nothing more to send, and the answer has no end.
	_ = c.control.SetReadDeadline(time.Time{})
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.sent = true
	if c.r.Method == http.MethodHead {
		return nil
	}
	for text = "retry: 1000\n\n" + text; c.put(text) && s.await(ctx, c, last); {
		text, last = s.streamed(last)
	}
	return nil
}

// streamed is the part of a stream with the events behind after, and the ID of the last.
func (s *Server) streamed(after uint64) (text string, last uint64) {
	events, last, lost := s.node.Events().After(after)
	var b strings.Builder
	if lost {
		fmt.Fprintf(&b, "event: lost\ndata: {\"after\":%d}\n\n", after)
	}
	for _, e := range events {
		text, err := json.Marshal(withLists(e))
		if err != nil {
			continue // none is such: a stream without it is better than no stream
		}
		fmt.Fprintf(&b, "id: %d-%s\nevent: %s\ndata: %s\n\n", e.ID, s.instance, e.Kind, text)
	}
	return b.String(), last
}

// await waits for another event, with heartbeats; false: the client has gone.
func (s *Server) await(ctx context.Context, c *call, after uint64) bool {
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, heartbeat)
		err := s.node.Events().Wait(wait, after)
		cancel()
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case !c.put(": still here\n\n"):
			return false
		}
	}
	return false
}

// put sends a part of a stream; false: the client does not take it.
func (c *call) put(text string) bool {
	_ = c.control.SetWriteDeadline(time.Now().Add(takeTimeout))
	_, err := c.w.Write([]byte(text))
	return err == nil && c.control.Flush() == nil
}

// after is the ID of the event that a stream goes on behind. One of another process, as of
// before a restart, counts as 0.
func (c *call) after(instance string) (uint64, error) {
	said := c.r.Header.Get("Last-Event-ID")
	name := "Last-Event-ID"
	if said == "" {
		said, name = c.r.URL.Query().Get("after"), "after"
	}
	if said == "" {
		return 0, nil
	}
	number, of, known := strings.Cut(said, "-")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, failf(http.StatusBadRequest, "%s: %.60q: want the ID of an event", name, said)
	}
	if known && of != instance {
		return 0, nil
	}
	return id, nil
}
