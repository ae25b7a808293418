package h1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// status returns the status of an *Error; 0 for nil.
func status(t *testing.T, err error) int {
	t.Helper()
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("%v is no *Error", err)
	}
	if refused == nil {
		return 0
	}
	return refused.Status
}

// TestLimits: what fits to the byte and to the field, whole and byte by byte.
func TestLimits(t *testing.T) {
	const head = "GET /abc HTTP/1.1\r\nHost:x\r\nA:  bc \r\n\r\n"
	const size = len("GET/abc") + len("Host: x\r\n") + len("A: bc\r\n")
	space := func(n int) string { return strings.Replace(head, ":x", ":"+strings.Repeat(" ", n)+"x", 1) }
	const room = size + slack
	for _, tt := range []struct {
		name, head string
		lim        Limits
		want       int
	}{
		{"none", space(1 << 20), Limits{}, 0},
		{"what fits", head, Limits{size, 2}, 0},
		{"a byte too many", head, Limits{size - 1, 0}, 431},
		{"a field too many", head, Limits{0, 1}, 431},
		{"the target alone", head, Limits{len("GET/ab"), 0}, 431},
		{"the target without fields", "GET /abc HTTP/1.0\r\n\r\n", Limits{len("GET/ab"), 0}, 431},
		{"less than nothing", head, Limits{-1, 0}, 431},
		{"white space that fits", space(room - len(head)), Limits{size, 2}, 0},
		{"white space without end", space(room - len(head) + 1), Limits{size, 2}, 431},
		{"empty lines without end", strings.Repeat("\r\n", slack) + head, Limits{size, 2}, 431},
		{"a line without end", "GET /" + strings.Repeat("a", room), Limits{size, 2}, 431},
	} {
		var r Request
		n, err := r.Parse([]byte(tt.head), tt.lim)
		if got := status(t, err); got != tt.want || (got == 0) != (n == len(tt.head)) || got == 0 && r.Size != size {
			t.Errorf("%s: %d, %v, size %d; want %d", tt.name, n, err, r.Size, tt.want)
		}
		if len(tt.head) > 10000 {
			continue
		}
		n, err = byBytes(tt.head, func(b []byte) (int, error) { return r.Parse(b, tt.lim) })
		if got := status(t, err); got != tt.want || (got == 0) != (n == len(tt.head)) {
			t.Errorf("%s, byte by byte: %d, %v; want %d", tt.name, n, err, tt.want)
		}
	}
	// The same bounds hold elsewhere.
	var res Response
	var trailer TrailerSection
	fields := "A: 1\r\nB: 22\r\n\r\n"
	for _, lim := range []Limits{{len(fields) - 2, 2}, {len(fields) - 3, 0}, {0, 1}} {
		want, n := 0, len(fields)
		if lim.Header != len(fields)-2 {
			want, n = 502, 0
		}
		if got, err := res.Parse([]byte("HTTP/1.1 200 OK\r\n"+fields), "GET", lim); status(t, err) != want || (got > 0) != (n > 0) {
			t.Errorf("response, %+v: %d, %v", lim, got, err)
		}
		if got, err := trailer.Parse([]byte(fields), lim); status(t, err) != want*431/502 || got != n {
			t.Errorf("trailer section, %+v: %d, %v", lim, got, err)
		}
	}
}

// TestBytesOnce: a head that comes slowly is not looked at from its beginning each time.
// What was seen of a line is searched no more for its end, and what was taken plays no role.
func TestBytesOnce(t *testing.T) {
	var r Request
	var b []byte
	lineAt := 0
	for i := range len(small) - 1 {
		b = append(b, small[i])
		if small[i] == '\n' {
			copy(b[lineAt:], small[lineAt:]) // as it was
		}
		if n, err := r.Parse(b, Limits{}); n != 0 || err != nil {
			t.Fatalf("after %q: %d, %v", small[:i+1], n, err)
		}
		if small[i] == '\n' {
			lineAt = i + 1
		}
		if len(b)-lineAt > 1 || lineAt > 0 {
			for j := range b[:max(lineAt, len(b)-1)] {
				if j != lineAt { // Parse looks at the first byte of a request each time
					b[j] = '\n'
				}
			}
		}
	}
	if n, err := r.Parse([]byte(small), Limits{}); n != len(small) || err != nil || r.Fields[9].Value != "max-age=0" {
		t.Errorf("%d, %v", n, err)
	}
}

// TestPipeline: one Request takes many heads, one after the other, out of one buffer.
func TestPipeline(t *testing.T) {
	var heads []string
	for i := range 20 {
		heads = append(heads, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: x\r\n%s\r\n", i, strings.Repeat("A: 1\r\n", i%7)))
	}
	b := []byte(strings.Join(heads, ""))
	var r Request
	for i, head := range heads {
		n, err := r.Parse(b, Limits{})
		if n != len(head) || err != nil || r.Target != fmt.Sprintf("/%d", i) || len(r.Fields) != 1+i%7 {
			t.Fatalf("%d: %d, %v, %s", i, n, err, r.describe())
		}
		b = b[n:]
	}
	if n, err := r.Parse(b, Limits{}); n != 0 || err != nil {
		t.Errorf("after the last: %d, %v", n, err)
	}
}

// TestBegun: empty lines are no request.
func TestBegun(t *testing.T) {
	var r Request
	for i, want := range []bool{false, false, false, false, false, true, true, true} {
		if n, err := r.Parse([]byte("\r\n\r\nGET")[:min(i, 7)], Limits{}); n != 0 || err != nil || r.Begun() != want {
			t.Errorf("%d bytes: %d, %v, %t", i, n, err, r.Begun())
		}
	}
	if r.Reset(); r.Begun() {
		t.Error("begun after Reset")
	}
	if _, _ = r.Parse([]byte(small), Limits{}); r.Begun() {
		t.Error("begun after the end")
	}
}

// TestReset: nothing is left of what was parsed, and nothing refers to its memory.
func TestReset(t *testing.T) {
	var r Request
	var res Response
	var trailer TrailerSection
	_, _ = r.Parse([]byte(small), Limits{})
	_, _ = res.Parse([]byte(answer), "GET", Limits{})
	_, _ = trailer.Parse([]byte("A: 1\r\n\r\n"), Limits{})
	_, _ = r.Parse([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Limits{}) // fewer fields
	r.Reset()
	res.Reset()
	trailer.Reset()
	for _, fields := range [][]Field{r.Fields, res.Fields, trailer.Fields} {
		for _, f := range fields[:cap(fields)] {
			if cap(fields) == 0 || f != (Field{}) {
				t.Errorf("%q is left of %d", f.Name, cap(fields))
			}
		}
	}
	r.Fields, res.Fields, trailer.Fields = nil, nil, nil
	if fmt.Sprint(r, res, trailer) != fmt.Sprint(Request{}, Response{}, TrailerSection{}) {
		t.Errorf("%+v, %+v, %+v", r, res, trailer)
	}
}

// TestTrailerSection: RFC 9112 §7.1.2, whole and byte by byte.
func TestTrailerSection(t *testing.T) {
	for _, tt := range []struct {
		name, section, want string
		status              int
	}{
		{"nothing", "\r\n", "", 0},
		{"fields", "X-a: 1\r\nCONTENT-LENGTH:\t2 \r\n\r\n", "X-a()=1|CONTENT-LENGTH(Content-Length)=2|", 0},
		{"space before the colon", "X-A : 1\r\n\r\n", "", 400},
		{"folded line", "X-A: 1\r\n 2\r\n\r\n", "X-A()=1|", 400},
		{"LF alone", "\n", "", 400},
		{"a field that ends in LF", "X-A: 1\n\r\n", "", 400},
		{"CR in a value", "X-A: 1\r2\r\n\r\n", "", 400},
		{"no field", "GET / HTTP/1.1\r\n\r\n", "", 400},
	} {
		var s TrailerSection
		check := func(n int, err error) {
			t.Helper()
			var got strings.Builder
			for _, f := range s.Fields {
				fmt.Fprintf(&got, "%s(%s)=%s|", f.Name, f.ID, f.Value)
			}
			if status(t, err) != tt.status || got.String() != tt.want || err == nil && n != len(tt.section) {
				t.Errorf("%s: %d, %v, %s; want %d, %s", tt.name, n, err, &got, tt.status, tt.want)
			}
		}
		check(s.Parse([]byte(tt.section+"GET"), Limits{}))
		check(byBytes(tt.section, func(b []byte) (int, error) { return s.Parse(b, Limits{}) }))
	}
}

// TestHasToken: lists of tokens (RFC 9110 §5.6.1).
func TestHasToken(t *testing.T) {
	for value, want := range map[string]bool{
		"close": true, "CLOSE": true, "a,close": true, "close,": true, " \tclose\t ": true, ",, close ,": true, "a, b ,cLoSe": true,
		"": false, ",": false, "closed": false, "close d": false, "clos": false, "\"close\"": false, "close;q=1": false, "\x00close": false,
		"a\tclose": false, "c\xc5\xbfose": false,
	} {
		if HasToken(value, "close") != want {
			t.Errorf("%q: %t", value, !want)
		}
	}
	if HasToken("a\x00b", "a\x00b") || EqualName("\x00", "\x00") {
		t.Error("what is no token equals itself")
	}
}

// TestBytes: every byte is taken for what it is, at every place of a word of eight and
// beside it.
func TestBytes(t *testing.T) {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // RFC 9110 §5.6.2
	for c := range 256 {
		valid := c >= ' ' && c != 0x7f || c == '\t'
		space := c <= ' ' || c == 0x7f
		var f Field
		inName := f.parse([]byte{'A', byte(c), ':'}) == "" && f.Name != "A"
		if inName != (c < 0x80 && strings.ContainsRune(token, rune(c))) {
			t.Errorf("%q in a name: %t", rune(c), inName)
		}
		for length := 1; length <= 20; length++ {
			for at := range length {
				for _, other := range []byte{'a', 0x80, 0xff, '!', '~'} {
					b := bytes.Repeat([]byte{other}, length)
					b[at] = byte(c)
					if validValue(b) != valid || hasSpace(b) != space {
						t.Fatalf("%q: valid %t, space %t", b, validValue(b), hasSpace(b))
					}
				}
			}
		}
	}
}
