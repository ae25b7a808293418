package lb

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// RequestID says what X-Request-ID backends and clients get. By it, lines of several logs are
// found to be about one request.
type RequestID uint8

// The values. The zero value is RequestIDOff or, in a Route, what the Handler has.
const (
	RequestIDOff  RequestID = iota + 1 // what client and backend say passes
	RequestIDKeep                      // the client's, if it has sent one that is valid; else a new one
	RequestIDMake                      // a new one, whatever the client says
)

var requestIDs = []string{"", "off", "keep", "make"}

// String returns "off", "keep" or "make".
func (r RequestID) String() string { return words.Of(requestIDs, r) }

// MarshalText implements encoding.TextMarshaler.
func (r RequestID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *RequestID) UnmarshalText(text []byte) error { return words.Parse(requestIDs, text, r) }

const requestIDName = "X-Request-ID"

// maxRequestID bounds the length of those that clients send.
const maxRequestID = 128

// requestID returns the ID of the request, which is made when it is needed for the first time:
// 32 hexadecimal digits, as nginx's $request_id, that nobody can predict. It is valid as long
// as the request.
func (x *exchange) requestID() string {
	if x.told.RequestID == "" {
		id := ""
		if x.cfg.RequestID == RequestIDKeep {
			id = x.sentID()
		}
		if id == "" {
			_, _ = rand.Read(x.random[:]) // never fails
			hex.Encode(x.madeID[:], x.random[:])
			id = bytesText(x.madeID[:])
		}
		x.told.RequestID = id
	}
	return x.told.RequestID
}

// sentID returns the client's X-Request-ID; empty: there is none, or several, or it is none that
// may stand in logs and other fields as it is.
func (x *exchange) sentID() (id string) {
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if !h1.EqualName(f.Name, requestIDName) {
			continue
		}
		if id != "" || !validRequestID(f.Value) {
			return ""
		}
		id = f.Value
	}
	return id
}

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case alphanumeric(c):
		case c == '-', c == '_', c == '.', c == '~', c == '+', c == '/', c == '=', c == ':', c == '@':
		default:
			return false
		}
	}
	return true
}
