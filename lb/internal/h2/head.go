package h2

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// connectionFields concern a connection of HTTP/1.1. A message that has one is malformed
// (RFC 9113 §8.2.2).
var connectionFields = []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}

// maxHeads bounds the informational responses that nobody has read.
const maxHeads = 32

// takeHead keeps a head of the response, or its trailer. An error says what is wrong with
// it.
func (s *Stream) takeHead(fields []hpack.HeaderField, end, truncated bool) error {
	if truncated {
		return errors.New("response header is too long")
	}
	for _, f := range fields {
		if slices.Contains(connectionFields, f.Name) {
			return fmt.Errorf("response header %q, which HTTP/2 does not have", f.Name)
		}
	}
	if s.final {
		return s.takeTrailer(fields, end)
	}
	status, err := statusOf(fields)
	switch {
	case err != nil:
		return err
	case status == 101: // RFC 9113 §8.6
		return errors.New("response 101, which HTTP/2 does not have")
	case status < 200 && end:
		return fmt.Errorf("response ends with a %d", status)
	case len(s.heads) >= maxHeads:
		return errors.New("too many informational responses")
	}
	if status >= 200 {
		if s.length, err = lengthOf(fields); err != nil {
			return err
		}
		s.final = true
		s.bodyless = s.bodyless || status == 204 || status == 304
		if end {
			err = s.checkEnd()
		}
	}
	if err == nil {
		s.heads = append(s.heads, fields)
	}
	return err
}

// statusOf returns the status of a response, whose only field with a colon it is.
func statusOf(fields []hpack.HeaderField) (int, error) {
	if len(fields) == 0 || fields[0].Name != ":status" {
		return 0, errors.New("response without a status")
	}
	value := fields[0].Value
	if status, err := strconv.Atoi(value); err == nil && len(value) == 3 && status >= 100 {
		return status, nil
	}
	return 0, fmt.Errorf("response status %q", value)
}

// lengthOf returns the length that a head announces, and -1 if it announces none.
func lengthOf(fields []hpack.HeaderField) (int64, error) {
	length := int64(-1)
	for _, f := range fields {
		if f.Name != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || length >= 0 && length != int64(n) {
			return 0, fmt.Errorf("response with content-length %q", f.Value)
		}
		length = int64(n)
	}
	return length, nil
}

func (s *Stream) takeTrailer(fields []hpack.HeaderField, end bool) error {
	switch {
	case !end:
		return errors.New("response with a second header")
	case len(fields) > 0 && fields[0].Name[0] == ':':
		return fmt.Errorf("trailer %q", fields[0].Name)
	}
	s.trailer = fields
	return s.checkEnd()
}

// takeData keeps a piece of the body.
func (s *Stream) takeData(p []byte) error {
	switch {
	case !s.final:
		return errors.New("response body without a header")
	case len(p) > 0 && s.bodyless:
		return errors.New("response with a body where there is none")
	case s.length >= 0 && int64(len(p)) > s.length:
		return errors.New("response is longer than its content-length")
	}
	if s.length > 0 {
		s.length -= int64(len(p))
	}
	// What was read makes room for what comes.
	if s.at > 0 && len(s.body)+len(p) > cap(s.body) {
		s.body = s.body[:copy(s.body, s.body[s.at:])]
		s.at = 0
	}
	s.body = append(s.body, p...)
	return nil
}

// checkEnd is called at the end of a response.
func (s *Stream) checkEnd() error {
	if s.length > 0 && !s.bodyless {
		return errors.New("response is shorter than its content-length")
	}
	return nil
}
