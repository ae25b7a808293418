package lb

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// askRaw sends a request as it is written, on a connection of its own, and returns what comes
// back: the status, the values of the fields as "Name: value", each on a line, and the body.
// A field that is not there has the value "-", and several values of one are joined by " + ".
func askRaw(t *testing.T, address, request string, fields ...string) string {
	t.Helper()
	c := dialTest(t, address)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err == nil && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		return answerText(res, err, fields)
	}
}

// askRaw is askRaw on any front. On one of HTTP/2 the request is what a client makes of the
// text, which has to be a request that it can send. The client follows no redirects, and adds
// nothing of its own.
func (s *trapSite) askRaw(t *testing.T, request string, fields ...string) string {
	t.Helper()
	if s.client == nil {
		return askRaw(t, strings.TrimPrefix(s.url, "http://"), request, fields...)
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		t.Fatal(err)
	}
	content := req.Body
	if req.ContentLength == 0 {
		content = nil
	}
	sent, err := http.NewRequestWithContext(t.Context(), req.Method, s.url, content)
	if err != nil {
		t.Fatal(err)
	}
	sent.Header, sent.Host, sent.ContentLength = req.Header, req.Host, req.ContentLength
	sent.URL.Opaque = "//" + req.Host + req.RequestURI // :path is what is behind the host
	if _, ok := sent.Header["User-Agent"]; !ok {
		sent.Header["User-Agent"] = nil
	}
	client := *s.client
	client.Timeout = bound
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(sent)
	return answerText(res, err, fields)
}

// answerText is what askRaw returns of a response.
func answerText(res *http.Response, err error, fields []string) string {
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	text := fmt.Sprintln(res.StatusCode)
	for _, field := range fields {
		values := res.Header.Values(field)
		if len(values) == 0 {
			values = []string{"-"}
		}
		text += field + ": " + strings.Join(values, " + ") + "\n"
	}
	content, err := io.ReadAll(res.Body)
	text += string(content)
	if err != nil {
		text += ", broken off"
	}
	return text
}

// forwardedProto is a request that a proxy says to have come so.
func forwardedProto(scheme, more string) string {
	return "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: " + scheme + "\r\n" + more + "\r\n"
}
