package lb

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// modifyResponse lets ModifyResponse change the response.
func (x *handling) modifyResponse() error {
	res := x.httpResponse()
	origin := res.Body
	if err := x.cfg.ModifyResponse(res); err != nil {
		return fmt.Errorf("backend %s: response: %w", x.pick.Backend(), err)
	}
	if res.Body == nil {
		res.Body = http.NoBody
	}
	if res.Body != origin {
		x.content = res.Body
	}
	x.modified = res
	x.readModified(res)
	return nil
}

// httpResponse returns the response as net/http has it.
func (x *handling) httpResponse() *http.Response {
	res := &http.Response{
		StatusCode: x.res.Status, Status: strconv.Itoa(x.res.Status) + " " + x.res.Reason,
		Proto: "HTTP/1." + strconv.Itoa(x.res.Minor), ProtoMajor: 1, ProtoMinor: x.res.Minor,
		Header: headerOf(x.res.Fields, nil), Body: x.origin, ContentLength: max(x.res.Length, -1),
		Close: x.res.Close, Request: x.in,
	}
	for _, name := range appendTrailers(nil, x.res.Fields, maxResponseFields, func(string) bool { return true }) {
		if res.Trailer == nil {
			res.Trailer = make(http.Header)
		}
		res.Trailer[http.CanonicalHeaderKey(name)] = nil
	}
	res.Header.Del("Trailer")
	res.Header.Del("Transfer-Encoding")
	switch {
	case x.res.Length == h1.Chunked:
		res.TransferEncoding = []string{"chunked"}
		res.Header.Del("Content-Length")
	case x.res.NoBody && x.in.Method == http.MethodHead:
		res.ContentLength = lengthOf(res.Header)
	}
	if x.origin.over() {
		res.Body = http.NoBody
	}
	x.origin.res = res
	return res
}

// lengthOf returns the Content-Length of a header, -1 if there is none that is valid.
func lengthOf(h http.Header) int64 {
	n, err := strconv.ParseUint(h.Get("Content-Length"), 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// readModified takes over what a ModifyResponse has made of the response.
func (x *handling) readModified(res *http.Response) {
	_, reason, _ := strings.Cut(res.Status, " ")
	x.res.Status, x.res.Reason, x.res.Close = res.StatusCode, oneLine(reason), res.Close
	x.res.Fields = headerFields(x.res.Fields[:0], res.Header)
	for name := range res.Trailer {
		x.res.Fields = append(x.res.Fields, h1.Field{Name: "Trailer", Value: name, ID: h1.Trailer})
	}
	x.res.Has = idsOf(x.res.Fields)
	x.res.NoBody = x.in.Method == http.MethodHead || res.StatusCode < 200 ||
		slices.Contains([]int{http.StatusNoContent, http.StatusNotModified}, res.StatusCode)
	x.res.Length = 0
	if !x.res.NoBody {
		x.res.Length = lengthOf(res.Header) // -1 is Chunked
	}
}
