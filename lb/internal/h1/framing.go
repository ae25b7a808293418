package h1

// The lengths of a body that are no number of bytes.
const (
	Chunked    int64 = -1 // in chunks (RFC 9112 §7.1)
	UntilClose int64 = -2 // of a response: the end of the connection ends it
)

// framing is what the fields of a message say about its body and its connection.
type framing struct {
	length    int64  // -1 without a Content-Length
	written   string // the Content-Length as it came
	chunked   bool   // its Transfer-Encoding is that
	close     bool   // Connection: close
	keepAlive bool   // Connection: keep-alive
}

// framers are the fields that frame looks at.
var framers = SetOf(Connection, ContentLength, TransferEncoding, Trailer)

// frame reads the framing (RFC 9112 §6). reason, with a status, is what is wrong with it. A
// Content-Length that is said more than once, and a Transfer-Encoding that is not one line
// "chunked", is what smugglers use. twice: the same Content-Length may be said again.
func frame(fields []Field, has Set, twice bool) (f framing, status int, reason string) {
	f.length = -1
	if has&framers == 0 {
		return f, 0, ""
	}
	misannounced := false
	for i := range fields {
		switch value := fields[i].Value; fields[i].ID {
		case ContentLength:
			n, ok := parseNumber(value)
			switch {
			case !ok:
				return f, 400, "Content-Length is not a number below 2^63"
			case f.length >= 0 && (!twice || f.written != value):
				return f, 400, "more than one Content-Length"
			}
			f.length, f.written = n, value
		case TransferEncoding:
			if f.chunked || !EqualName(value, "chunked") {
				return f, 501, "Transfer-Encoding is not chunked"
			}
			f.chunked = true
		case Connection:
			f.close = f.close || HasToken(value, "close")
			f.keepAlive = f.keepAlive || HasToken(value, "keep-alive")
		case Trailer:
			misannounced = misannounced || HasToken(value, "Content-Length") ||
				HasToken(value, "Transfer-Encoding") || HasToken(value, "Trailer")
		}
	}
	if f.chunked && misannounced {
		return f, 400, "Trailer announces fields that frame a message" // RFC 9110 §6.5.1
	}
	return f, 0, ""
}

// parseNumber parses a number of digits only, as a Content-Length is (RFC 9110 §8.6).
func parseNumber(s string) (n int64, ok bool) {
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, s != ""
}

// parseVersion parses the version of HTTP; major is -1 if it is none. A minor version that is
// not known means what the highest that is known does (RFC 9110 §2.5).
func parseVersion(b []byte) (major, minor int) {
	const example = "HTTP/1.1"
	if len(b) != len(example) || string(b[:5]) != example[:5] || b[6] != '.' ||
		b[5] < '0' || b[5] > '9' || b[7] < '0' || b[7] > '9' {
		return -1, 0
	}
	return int(b[5] - '0'), min(int(b[7]-'0'), 1)
}
