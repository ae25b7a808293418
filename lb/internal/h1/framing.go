package h1

// The lengths of a body that are no number of bytes.
const (
	Chunked    int64 = -1 // in chunks (RFC 9112 §7.1)
	UntilClose int64 = -2 // of a response: the end of the connection ends it
)

// framing is what the fields of a message say about its body and its connection.
type framing struct {
	length    int64 // -1 without a Content-Length
	chunked   bool  // its Transfer-Encoding is that
	close     bool  // Connection: close
	keepAlive bool  // Connection: keep-alive
}

// frame reads the framing (RFC 9112 §6). A Content-Length that is said more than once, and
// a Transfer-Encoding that is not one line "chunked", is what smugglers use. twice: a
// Content-Length may be said again if it is the same.
func frame(fields []Field, twice bool) (f framing, status int, reason string) {
	f.length = -1
	var coding bool
	for i := range fields {
		value := fields[i].Value
		switch fields[i].ID {
		case ContentLength:
			n, ok := parseLength(value)
			if !ok {
				return f, 400, "Content-Length is not a number below 2^63"
			}
			if f.length >= 0 && (!twice || f.length != n) {
				return f, 400, "more than one Content-Length"
			}
			f.length = n
		case TransferEncoding:
			coding = f.chunked || coding
			if coding = coding || !EqualName(value, "chunked"); !coding {
				f.chunked = true
			}
		case Connection:
			f.close = f.close || HasToken(value, "close")
			f.keepAlive = f.keepAlive || HasToken(value, "keep-alive")
		}
	}
	if coding {
		return f, 501, "Transfer-Encoding is not chunked"
	}
	return f, 0, ""
}

// parseLength parses a Content-Length: digits only (RFC 9110 §8.6).
func parseLength(s string) (n int64, ok bool) {
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, s != ""
}

// parseVersion parses the version of HTTP; major is 0 if it is none. A minor version that is
// not known means what the highest that is known does (RFC 9110 §2.5).
func parseVersion(b []byte) (major, minor int) {
	const example = "HTTP/1.1"
	if len(b) != len(example) || string(b[:5]) != example[:5] || b[6] != '.' ||
		b[5] < '0' || b[5] > '9' || b[7] < '0' || b[7] > '9' {
		return -1, 0
	}
	return int(b[5] - '0'), min(int(b[7]-'0'), 1)
}
