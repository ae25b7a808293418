package h1

import "strconv"

// The functions here write what they get: names, values, targets and reason phrases come
// from Parse, or were checked when they were configured.

// AppendRequestLine appends a request line.
func AppendRequestLine(b []byte, method, target string) []byte {
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	return append(b, " HTTP/1.1\r\n"...)
}

// AppendStatusLine appends a status line of HTTP/1.1, whatever the client speaks (RFC 9110
// §2.5).
func AppendStatusLine(b []byte, status int, reason string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, reason...)
	return append(b, "\r\n"...)
}

// AppendField appends a line of a header or trailer section.
func AppendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// AppendFields appends lines of a header or trailer section, without the empty line.
func AppendFields(b []byte, fields []Field) []byte {
	for i := range fields {
		b = AppendField(b, fields[i].Name, fields[i].Value)
	}
	return b
}

// AppendLength appends the field that says how long a body is: a number of bytes, or
// Chunked. UntilClose has none.
func AppendLength(b []byte, length int64) []byte {
	switch {
	case length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	case length == Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return b
}

// AppendChunkSize appends what comes before the content of a chunk. size is not 0: that
// would be LastChunk.
func AppendChunkSize(b []byte, size int) []byte {
	b = strconv.AppendUint(b, uint64(size), 16)
	return append(b, "\r\n"...)
}

// What ends the content of a chunk, and the line of the last one. After that comes the
// trailer section, with an empty line at its end.
const (
	ChunkEnd  = "\r\n"
	LastChunk = "0\r\n"
)

// AppendChunk appends a whole chunk, or nothing if content is empty.
func AppendChunk(b, content []byte) []byte {
	if len(content) == 0 {
		return b
	}
	b = AppendChunkSize(b, len(content))
	b = append(b, content...)
	return append(b, ChunkEnd...)
}
