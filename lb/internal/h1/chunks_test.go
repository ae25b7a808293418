package h1

import (
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// decoded gives a Chunks what comes in pieces of size bytes. It returns the content, and
// what follows the line of the last chunk.
func decoded(body string, size int) (content, rest string, err error) {
	var c Chunks
	for !c.Ended() && body != "" {
		piece := body[:min(size, len(body))]
		n := int(min(c.Left(), uint64(len(piece))))
		if n > 0 {
			content += piece[:n]
			c.Took(n)
		} else if n, err = c.Frame([]byte(piece)); err != nil {
			return content, "", err
		}
		body = body[n:]
	}
	if !c.Ended() {
		err = io.ErrUnexpectedEOF
	}
	return content, body, err
}

// TestChunks: RFC 9112 §7.1, in whatever pieces the bytes come.
func TestChunks(t *testing.T) {
	for _, tt := range []struct {
		body, content, rest string
		err                 error
	}{
		{"0\r\n\r\n", "", "\r\n", nil},
		{"3\r\nabc\r\n0\r\nX: y\r\n\r\n", "abc", "X: y\r\n\r\n", nil},
		{"3\r\nabc\r\n000\r\n", "abc", "", nil},
		{"A\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n", "0123456789\r\n", "", nil},
		{"1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n", "abcdefghijklmnopqrstuvwxyz", "", nil},
		{"0003 \t;a=\"b;c\"\r\nabc\r\n0;\r\n", "abc", "", nil},
		{"3 \r\nabc\r\n0\t\r\n", "abc", "", nil},
		{"3\r\nab", "ab", "", io.ErrUnexpectedEOF},
		{"3\r\nabc\r\n", "abc", "", io.ErrUnexpectedEOF},
		{"7fffffffffffffff\r\nabc", "abc", "", io.ErrUnexpectedEOF},
		{"8000000000000000\r\n", "", "", ErrChunkSize},
		{"10000000000000003\r\nabc\r\n", "", "", ErrChunkSize},
		{"\r\n", "", "", ErrChunkSize},
		{" 3\r\nabc\r\n", "", "", ErrChunkSize},
		{"+3\r\nabc\r\n", "", "", ErrChunkSize},
		{"0x3\r\nabc\r\n", "", "", ErrChunkSize},
		{"3 3\r\nabc\r\n", "", "", ErrChunkSize},
		{"3\nabc\r\n", "", "", ErrChunkSize},
		{"3\rabc\r\n", "", "", ErrChunkLine},
		{"3;\nabc\r\n", "", "", ErrChunkLine},
		{"3;\r\r\nabc\r\n", "", "", ErrChunkLine},
		{"3\r\nabcd\r\n", "abc", "", ErrChunkContent},
		{"3\r\nabc\n", "abc", "", ErrChunkContent},
		{"3\r\nabc\r\r\n", "abc", "", ErrChunkContent},
	} {
		for size := 1; size <= len(tt.body); size++ {
			content, rest, err := decoded(tt.body, size)
			if content != tt.content || rest != tt.rest || !errors.Is(err, tt.err) {
				t.Errorf("%q by %d: %q, %q, %v; want %q, %q, %v", tt.body, size, content, rest, err, tt.content, tt.rest, tt.err)
			}
		}
	}
}

// TestChunksHaveBoundedFrames: one byte a chunk is fine for ever, also with a short
// extension. Frames without end are not.
func TestChunksHaveBoundedFrames(t *testing.T) {
	const many = 20000
	for _, tt := range []struct {
		name, body string
		err        error
	}{
		{"one byte a chunk", strings.Repeat("1\r\nx\r\n", many) + "0\r\n", nil},
		{"short extensions", strings.Repeat("1;x=y\r\nx\r\n", many) + "0\r\n", nil},
		{"long extensions of long chunks", strings.Repeat(fmt.Sprintf("400;%s\r\n%s\r\n", strings.Repeat("e", 1024), strings.Repeat("x", 1024)), 200) + "0\r\n", nil},
		{"a long extension", "1;" + strings.Repeat("e", framesOfBody-10) + "\r\nx\r\n0\r\n", nil},
		{"an endless extension", "1;" + strings.Repeat("e", framesOfBody), ErrChunkFrames},
		{"endless zeros", strings.Repeat("0", framesOfBody+1), ErrChunkFrames},
		{"long extensions of short chunks", strings.Repeat("1;"+strings.Repeat("e", 100)+"\r\nx\r\n", many) + "0\r\n", ErrChunkFrames},
	} {
		if _, _, err := decoded(tt.body, 4096); err != tt.err {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

// FuzzChunks: pieces of any size are the same body, and whatever is taken is what net/http
// takes. It does not take space before an extension, nor lines of 4 KB.
func FuzzChunks(f *testing.F) {
	for _, body := range []string{"3\r\nabc\r\n0\r\n\r\n", "1;x=y\r\na\r\n00\r\n", "3 \t\r\nabc\r\n0\r\n", "zz\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n"} {
		f.Add(body, uint8(2))
	}
	f.Fuzz(func(t *testing.T, body string, size uint8) {
		content, rest, err := decoded(body, len(body)+1)
		pieces, restOfPieces, errOfPieces := decoded(body, int(size)+1)
		if content != pieces || rest != restOfPieces || err != errOfPieces {
			t.Fatalf("%q, %q, %v; in pieces %q, %q, %v", content, rest, err, pieces, restOfPieces, errOfPieces)
		}
		if strings.Contains(body, " ;") || strings.Contains(body, "\t;") || len(body) >= 4096 {
			return
		}
		theirs, theirErr := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(body)))
		if err == nil && (theirErr != nil || content != string(theirs)) {
			t.Fatalf("%q; net/http has %q, %v", content, theirs, theirErr)
		}
	})
}

// TestChunksContent: content is taken where it lies, in whatever pieces the bytes come.
func TestChunksContent(t *testing.T) {
	const body = "3\r\nabc\r\n1;x\r\nd\r\n0A\r\n0123456789\r\n0\r\n"
	for size := 1; size <= len(body); size++ {
		var c Chunks
		var got string
		b := []byte(body + "\r\nnext")
		for !c.Ended() {
			content, used, err := c.Content(b[:min(size, len(b))])
			if err != nil || used == 0 {
				t.Fatalf("by %d: %d, %v", size, used, err)
			}
			got += string(content)
			b = b[used:]
		}
		content, used, err := c.Content(b)
		if got != "abcd0123456789" || string(b) != "\r\nnext" || used != 0 || content != nil || err != nil {
			t.Errorf("by %d: %q, rest %q, then %q, %d, %v", size, got, b, content, used, err)
		}
	}
}
