package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/havip/havip/internal/report"
)

// silence is how long a stream may be without a byte: the daemon sends heartbeats.
const silence = 45 * time.Second

// longestLine is of a stream. An event has the size of a line of the log.
const longestLine = 1 << 20

// Stream is a place among the events of a havip, from which Follow goes on. The zero value
// is before the first event.
type Stream struct {
	client *Client
	id     string // of the latest event, with that of the process
	// Lost is called, if it is set, when events between were not kept.
	Lost func()
}

// Stream returns the place behind an event.
func (c *Client) Stream(after uint64) *Stream { return &Stream{client: c, id: fmt.Sprint(after)} }

// Follow calls fn with each event as it comes, until ctx ends, fn returns an error, or the
// havip goes away: ErrAway. Called again it goes on where it was; after a restart of the
// havip, at that one's first event.
func (s *Stream) Follow(ctx context.Context, fn func(report.Event) error) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	header := http.Header{"Last-Event-Id": {s.id}, "Accept": {"text/event-stream"}}
	response, err := s.client.send(reading, http.MethodGet, path("events", "stream"), nil, header)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	watchdog := time.AfterFunc(silence, stop)
	defer watchdog.Stop()
	in := bufio.NewScanner(readerFunc(func(p []byte) (int, error) {
		watchdog.Reset(silence)
		return response.Body.Read(p)
	}))
	in.Buffer(nil, longestLine)
	err = s.read(in, fn)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || in.Err() != nil:
		return fmt.Errorf("%w on %s any more", ErrAway, s.client.where)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read takes the events from a stream. Nil: it has ended.
func (s *Stream) read(in *bufio.Scanner, fn func(report.Event) error) error {
	var id, kind, data string
	for in.Scan() {
		field, value, _ := strings.Cut(in.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data += value
		case "": // a blank line ends an event; a comment has a value
			if value != "" || in.Text() != "" {
				continue
			}
			if err := s.take(id, kind, data, fn); err != nil {
				return err
			}
			id, kind, data = "", "", ""
		}
	}
	return in.Err()
}

func (s *Stream) take(id, kind, data string, fn func(report.Event) error) error {
	switch {
	case kind == "lost":
		if s.Lost != nil {
			s.Lost()
		}
		return nil
	case data == "":
		return nil
	}
	var e report.Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("%s: an event: %w", s.client.where, err)
	}
	if id != "" {
		s.id = id
	}
	return fn(e)
}
