package lb

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// readHead fills req with the head of a request that net/http, and maybe a middleware, has
// read. The order of the fields is that of their names, for theirs is lost. A target that no
// backend may get is empty.
func readHead(req *h1.Request, r *http.Request) {
	*req = h1.Request{Method: r.Method, Minor: r.ProtoMinor, Host: r.Host, HasHost: r.Host != "", Length: r.ContentLength}
	if target, ok := requestTarget(r.Method, r.RequestURI, r.ProtoMajor, r.URL); ok {
		req.Target = target
	}
	// The Host that counts comes first. HTTP/2 may have others behind it.
	req.Fields = make([]h1.Field, 0, len(r.Header)+2)
	if r.Host != "" {
		req.Fields = append(req.Fields, h1.Field{Name: "Host", Value: r.Host, ID: h1.Host})
	}
	req.Fields = headerFields(req.Fields, r.Header)
	if len(r.Trailer) > 0 {
		names := strings.Join(slices.Sorted(maps.Keys(r.Trailer)), ", ")
		req.Fields = append(req.Fields, h1.Field{Name: "Trailer", Value: names, ID: h1.Trailer})
	}
	req.Has = idsOf(req.Fields)
	req.Size = len(r.Method) + len(r.RequestURI)
	if r.URL != nil { // a middleware may have changed it
		req.Size = len(r.Method) + max(len(r.RequestURI), len(r.URL.Path)+len(r.URL.RawQuery))
	}
	for i := range req.Fields {
		req.Size += fieldSize(req.Fields[i].Name, req.Fields[i].Value)
	}
}

// headerFields appends the fields of a header in the order of their names. As with net/http,
// names that are none are left out, and a line ends in no value.
func headerFields(dst []h1.Field, h http.Header) []h1.Field {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !validHeader(name, "") {
			continue
		}
		id := h1.IDOf(name)
		for _, value := range h[name] {
			dst = append(dst, h1.Field{Name: name, Value: oneLine(value), ID: id})
		}
	}
	return dst
}

var endsOfLines = strings.NewReplacer("\n", " ", "\r", " ")

// oneLine returns a value as net/http writes it.
func oneLine(value string) string {
	if strings.ContainsAny(value, "\r\n") {
		value = endsOfLines.Replace(value)
	}
	return strings.Trim(value, " \t")
}

// idsOf returns the set of the fields' IDs.
func idsOf(fields []h1.Field) (s h1.Set) {
	for i := range fields {
		s |= h1.SetOf(fields[i].ID)
	}
	return s
}

// headerOf returns fields as net/http has them: names in canonical form, but for those of own.
func headerOf(fields []h1.Field, own *setFields) http.Header {
	h := make(http.Header, len(fields))
	values := make([]string, len(fields))
	for i := range fields {
		f := &fields[i]
		name := f.Name
		if own == nil || !own.sets(f) {
			name = http.CanonicalHeaderKey(name)
		}
		if before := h[name]; len(before) > 0 {
			h[name] = append(before, f.Value)
			continue
		}
		values[i] = f.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h
}

// clearHeader removes what the configuration sets from the header of the final response.
func (x *handling) clearHeader() {
	own, h := &x.cfg.responseFields, x.w.Header()
	for i := range own.list {
		f := &own.list[i]
		name := http.CanonicalHeaderKey(f.name)
		if delete(h, name); len(f.value) == 0 {
			h[name] = nil // net/http adds none either
		}
	}
}

// setReplyHeader sets what an answer made here has by the configuration.
func (x *handling) setReplyHeader() {
	own, h := &x.cfg.responseFields, x.w.Header()
	if len(own.list)+len(x.cfg.responseAdded.list) == 0 {
		return
	}
	x.clearHeader()
	for name, values := range headerOf(x.replyFields(x.answer[:0]), own) {
		h[name] = append(h[name], values...)
	}
}

// setHeader sets the header of the final response.
func (x *handling) setHeader(fields []h1.Field) {
	own, h := &x.cfg.responseFields, x.w.Header()
	x.clearHeader()
	for name, values := range headerOf(fields, own) {
		if name == "Connection" || name == "Trailer" { // there may be some of ours
			values = append(h[name], values...)
		}
		h[name] = values
	}
	if !x.res.NoBody && x.res.Length >= 0 && !x.encoded {
		h["Content-Length"] = []string{strconv.FormatInt(x.res.Length, 10)}
	}
	if x.up.stream != nil && x.major == 2 && !x.res.NoBody && x.res.Length < 0 {
		h["Content-Length"] = nil // net/http would say how much of a short body has come
	}
	// net/http would add what it takes the body for. It adds a missing Date too, as a
	// proxy has to (RFC 9110 §6.6.1).
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	if x.res.Status == http.StatusNotModified {
		// These tell of the response to a GET. net/http removes them in HTTP/1, by this spelling.
		for _, name := range []string{"Content-Length", "Content-Type"} {
			if values, ok := h[name]; ok {
				delete(h, name)
				h[strings.ToLower(name)] = values
			}
		}
	}
}
