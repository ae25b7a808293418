package lb

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// forwardsLeft returns the Max-Forwards that backends get, empty if the request has none
// that counts. last: no backend may get the request. ok is false if values are not one
// number (RFC 9110 §7.6.2).
func forwardsLeft(method string, values []string) (left string, last, ok bool) {
	if len(values) == 0 || method != http.MethodTrace && method != http.MethodOptions {
		return "", false, true
	}
	n, err := strconv.ParseUint(values[0], 10, 64)
	switch {
	case len(values) > 1, err != nil && !errors.Is(err, strconv.ErrRange): // ErrRange: n is the largest
		return "", false, false
	case n == 0:
		return "", true, true
	}
	return strconv.FormatUint(n-1, 10), false, true
}

// secretFields are those that an answer to a TRACE does not show (RFC 9110 §9.3.8).
var secretFields = map[string]bool{"Authorization": true, "Cookie": true, "Proxy-Authorization": true}

// answerLast answers a TRACE or OPTIONS that may go no further.
func (x *handling) answerLast() {
	var content bytes.Buffer
	if x.in.Method == http.MethodTrace {
		x.w.Header().Set("Content-Type", "message/http")
		fmt.Fprintf(&content, "TRACE %s %s\r\nHost: %s\r\n", x.target, x.in.Proto, x.in.Host)
		_ = x.in.Header.WriteSubset(&content, secretFields)
		content.WriteString("\r\n")
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(content.Len()))
	x.beginAnswer()
	w := &answerWriter{x.w, x}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(content.Bytes())
	x.finishResponse()
}
