package lb

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/havip/havip/lb/internal/h1"
)

// statusLeft is what nginx logs of a client that has left before it was answered.
const statusLeft = 499

// loggedStatus is the status that a line has.
func (r *Record) loggedStatus() int {
	if r.Status == 0 && r.HTTP != nil && r.HTTP.Left {
		return statusLeft
	}
	return r.Status
}

// nobody stands for the request of a Record that has none.
var nobody RequestRecord

// appendCombinedLine appends a line as nginx writes it by its format combined:
//
//	$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
func appendCombinedLine(b []byte, now time.Time, r *Record) []byte {
	h := r.HTTP
	if h == nil {
		h = &nobody
	}
	if a := r.Client.Addr(); a.IsValid() {
		b = a.WithZone("").AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = append(b, " - "...)
	b = appendLoggedUser(b, h)
	b = append(b, " ["...)
	b = now.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	switch {
	case h.Method != "":
		b = appendLogged(b, h.Method)
		b = append(b, ' ')
		b = appendLogged(b, h.Target)
		b = append(b, ' ')
		b = append(b, h.Proto...)
	case h.Line != "":
		b = appendLogged(b, h.Line)
	default:
		b = append(b, '-')
	}
	b = append(b, `" `...)
	status := r.loggedStatus()
	if status < 100 {
		b = append(b, "00"[:2-min(status/10, 1)]...)
	}
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, ` "`...)
	b = appendLoggedField(b, h, "Referer")
	b = append(b, `" "`...)
	b = appendLoggedField(b, h, "User-Agent")
	return append(b, "\"\n"...)
}

// appendLoggedUser appends the user, or what stands for none.
func appendLoggedUser(b []byte, h *RequestRecord) []byte {
	start := len(b)
	b = h.appendUser(b)
	switch user := b[start:]; {
	case len(user) == 0:
		return append(b, '-')
	case isPlain(user):
		return b
	default:
		return appendLogged(b[:start], string(user))
	}
}

// isPlain reports whether both formats have a text as it is.
func isPlain(text []byte) bool {
	for _, c := range text {
		if escapedInLog(c) {
			return false
		}
	}
	return true
}

// appendLoggedField appends the value of a field, or what stands for none.
func appendLoggedField(b []byte, h *RequestRecord, name string) []byte {
	value, ok := h.Header(name)
	if !ok {
		return append(b, '-')
	}
	return appendLogged(b, value)
}

// escapedInLog reports whether nginx escapes a byte in its log.
func escapedInLog(c byte) bool { return c < ' ' || c == '"' || c == '\\' || c >= 0x7f }

// appendLogged appends a text as nginx does: with \x and two digits in the place of each byte
// that could end the text, or the line, or that no ASCII has.
func appendLogged(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !escapedInLog(c) {
			continue
		}
		b = append(b, s[from:i]...)
		b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		from = i + 1
	}
	return append(b, s[from:]...)
}

// appendJSONLine appends a line of JSON. Times are in seconds; what is empty, or of other
// modes, is left out.
func appendJSONLine(b []byte, now time.Time, r *Record) []byte {
	b = append(b, `{"time":"`...)
	b = now.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	b = append(b, `","service":`...)
	b = appendJSONText(b, r.Service)
	b = appendJSONMember(b, "pool", r.Pool)
	b = appendJSONAddress(b, "client", r.Client)
	if r.Peer.IsValid() {
		b = appendJSONAddress(b, "peer", r.Peer)
	}
	if h := r.HTTP; h != nil {
		b = appendJSONRequest(b, r, h)
	}
	b = appendJSONInt(b, "received", r.Received)
	b = appendJSONInt(b, "sent", r.Sent)
	b = appendJSONSpan(b, "duration", r.Duration)
	b = appendJSONSpan(b, "connect", r.Connect)
	b = appendJSONMember(b, "backend", r.Backend)
	if h := r.HTTP; h != nil {
		b = appendJSONUpstream(b, h)
	}
	b = appendJSONInt(b, "retries", int64(r.Retries))
	b = appendJSONMember(b, "reason", r.Reason)
	return append(b, "}\n"...)
}

// appendJSONRequest appends what the client has asked, and the status that it got.
func appendJSONRequest(b []byte, r *Record, h *RequestRecord) []byte {
	b = appendJSONMember(b, "method", h.Method)
	b = appendJSONMember(b, "target", h.Target)
	b = appendJSONMember(b, "proto", h.Proto)
	b = appendJSONMember(b, "line", h.Line)
	b = appendJSONMember(b, "host", h.Host)
	b = appendJSONInt(b, "status", int64(r.loggedStatus()))
	b = appendJSONMember(b, "route", h.Route)
	b = appendJSONMember(b, "request_id", h.RequestID)
	if value, ok := h.Header("Referer"); ok {
		b = appendJSONMember(b, "referer", value)
	}
	if value, ok := h.Header("User-Agent"); ok {
		b = appendJSONMember(b, "user_agent", value)
	}
	b = appendJSONForwardedFor(b, h)
	b = appendJSONUser(b, h)
	return appendJSONMember(b, "tls", h.TLS)
}

// appendJSONAddress appends an address, with its port if that is known.
func appendJSONAddress(b []byte, name string, a netip.AddrPort) []byte {
	b = append(appendJSONName(b, name), '"')
	switch {
	case a.IsValid() && a.Port() == 0:
		b = a.Addr().AppendTo(b)
	case a.IsValid():
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

// appendJSONForwardedFor appends what the client, or a proxy before, has sent as
// X-Forwarded-For, whether that is trusted or not.
func appendJSONForwardedFor(b []byte, h *RequestRecord) []byte {
	const name = "X-Forwarded-For"
	value, found := "", false
	for i := range h.fields {
		if f := &h.fields[i]; len(f.Name) == len(name) && h1.EqualName(f.Name, name) {
			if found {
				value += ", " + f.Value // of several, which are rare
			} else {
				value, found = f.Value, true
			}
		}
	}
	return appendJSONMember(b, "x_forwarded_for", value)
}

// appendJSONUser appends the user, unless there is none.
func appendJSONUser(b []byte, h *RequestRecord) []byte {
	before := len(b)
	b = append(appendJSONName(b, "user"), '"')
	start := len(b)
	b = h.appendUser(b)
	switch user := b[start:]; {
	case len(user) == 0:
		return b[:before]
	case isPlain(user):
		return append(b, '"')
	default:
		return appendJSONText(b[:start-1], string(user))
	}
}

// appendJSONUpstream appends what is known of the backend.
func appendJSONUpstream(b []byte, h *RequestRecord) []byte {
	b = appendJSONMember(b, "upstream", h.Upstream)
	if h.UpstreamStatus != 0 {
		b = appendJSONInt(b, "upstream_status", int64(h.UpstreamStatus))
	}
	if h.HeaderTime != 0 {
		b = appendJSONSpan(b, "header", h.HeaderTime)
	}
	return b
}

// appendJSONName appends the name of a member behind others.
func appendJSONName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// appendJSONMember appends a text, unless that is empty.
func appendJSONMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendJSONText(appendJSONName(b, name), value)
}

func appendJSONInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendJSONName(b, name), n, 10)
}

// appendJSONSpan appends a duration in seconds, down to the microsecond.
func appendJSONSpan(b []byte, name string, d time.Duration) []byte {
	b = appendJSONName(b, name)
	us := max(d, 0).Microseconds()
	b = strconv.AppendInt(b, us/1e6, 10)
	b = append(b, '.')
	for scale := int64(100000); scale > 0; scale /= 10 {
		b = append(b, byte('0'+us/scale%10))
	}
	return b
}

// appendJSONText appends a text of JSON (RFC 8259 §7). A byte that is no UTF-8 becomes U+FFFD,
// as in encoding/json.
func appendJSONText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			// The two separators are ends of lines for programs that take JSON for JavaScript.
			if r, size = utf8.DecodeRuneInString(s[i:]); (r != utf8.RuneError || size > 1) && r > 0x9f && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		} else {
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			default:
				b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			}
		}
		i += size
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
