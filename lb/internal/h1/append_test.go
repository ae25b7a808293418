package h1

import "testing"

// TestAppend: what goes out, to the byte.
func TestAppend(t *testing.T) {
	fields := []Field{{Name: "X-a", Value: "1"}, {Name: "Y", Value: ""}}
	for _, tt := range []struct{ got, want string }{
		{string(AppendRequestLine([]byte("<"), "GET", "/%2f?")), "<GET /%2f? HTTP/1.1\r\n"},
		{string(AppendStatusLine([]byte("<"), 200, "Fine")), "<HTTP/1.1 200 Fine\r\n"},
		{string(AppendStatusLine(nil, 999, "")), "HTTP/1.1 999 \r\n"},
		{string(AppendFields([]byte("<"), fields)), "<X-a: 1\r\nY: \r\n"},
		{string(AppendLength([]byte("<"), 1<<40)), "<Content-Length: 1099511627776\r\n"},
		{string(AppendLength([]byte("<"), 0)), "<Content-Length: 0\r\n"},
		{string(AppendLength([]byte("<"), Chunked)), "<Transfer-Encoding: chunked\r\n"},
		{string(AppendLength([]byte("<"), UntilClose)), "<"},
		{string(AppendChunkSize([]byte("<"), 0xabc)), "<abc\r\n"},
		{string(AppendChunk([]byte("<"), []byte("0123456789abcdef"))), "<10\r\n0123456789abcdef\r\n"},
		{string(AppendChunk([]byte("<"), nil)), "<"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
