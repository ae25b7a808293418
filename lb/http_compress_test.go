package lb

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// compressible is a text of which much is left out.
var compressible = strings.Repeat("All responses of this kind look more or less like this one. ", 40)

const textHead = "Content-Type: text/plain\r\n"

// compressCases are requests, responses to them, and what clients get with gzip: the status, how
// it is encoded, and what is said of that.
var compressCases = []struct {
	name, method, request string // fields of the request; Accept-Encoding: gzip comes first
	response              string // status and fields; Content-Length comes last, unless there are chunks
	chunks                bool
	content               string
	want                  string
	nginx                 string // where it differs
	why                   string
}{
	{"text", "GET", "", "200 OK\r\n" + textHead, false, compressible, "200 gzip vary=[Accept-Encoding]", "", ""},
	{"chunks", "GET", "", "200 OK\r\n" + textHead, true, compressible, "200 gzip vary=[Accept-Encoding]", "", ""},
	{"short chunks", "GET", "", "200 OK\r\n" + textHead, true, "short", "200 gzip vary=[Accept-Encoding]", "", ""},
	{"empty chunks", "GET", "", "200 OK\r\n" + textHead, true, "", "200 gzip vary=[Accept-Encoding]", "", ""},
	{"POST", "POST", "", "200 OK\r\n" + textHead, false, compressible, "200 gzip vary=[Accept-Encoding]", "", ""},
	{"parameters, upper case", "GET", "", "200 OK\r\nContent-Type: TEXT/Plain ;charset=utf-8\r\n", false, compressible, "200 gzip vary=[Accept-Encoding]", "200 plain length",
		"for nginx the space belongs to the type"},
	{"strong ETag, ranges", "GET", "", "200 OK\r\n" + textHead + "ETag: \"a\"\r\nAccept-Ranges: bytes\r\n", false, compressible, `200 gzip vary=[Accept-Encoding] etag=W/"a"`, "", ""},
	{"weak ETag", "GET", "", "200 OK\r\n" + textHead + "ETag: W/\"a\"\r\n", false, compressible, `200 gzip vary=[Accept-Encoding] etag=W/"a"`, "", ""},
	{"ETag that is none", "GET", "", "200 OK\r\n" + textHead + "ETag: a\r\n", false, compressible, `200 gzip vary=[Accept-Encoding]`, "", ""},
	{"Vary is there", "GET", "", "200 OK\r\n" + textHead + "Vary: Cookie\r\n", false, compressible, "200 gzip vary=[Cookie Accept-Encoding]", "200 gzip vary=[Accept-Encoding Cookie]", "another order"},
	{"Vary has it", "GET", "", "200 OK\r\n" + textHead + "Vary: Cookie, accept-encoding\r\n", false, compressible, "200 gzip vary=[Cookie, accept-encoding]",
		"200 gzip vary=[Accept-Encoding Cookie, accept-encoding]", "nginx says it twice"},
	{"Vary: *", "GET", "", "200 OK\r\n" + textHead + "Vary: *\r\n", false, compressible, "200 gzip vary=[*]", "200 gzip vary=[Accept-Encoding *]", "nothing can be added to that"},
	{"403", "GET", "", "403 No\r\n" + textHead, false, compressible, "403 gzip vary=[Accept-Encoding]", "", ""},
	{"404", "GET", "", "404 No\r\n" + textHead, false, compressible, "404 gzip vary=[Accept-Encoding]", "", ""},

	{"201", "GET", "", "201 Made\r\n" + textHead, false, compressible, "201 plain length", "", ""},
	{"500", "GET", "", "500 No\r\n" + textHead, false, compressible, "500 plain length", "", ""},
	{"204", "GET", "", "204 No\r\n" + textHead, false, "", "204 plain", "", ""},
	{"304", "GET", "", "304 No\r\nETag: \"a\"\r\n", false, "", `304 plain etag="a"`, "", ""},
	{"304 to the weak ETag", "GET", "If-None-Match: W/\"a\"\r\n", "304 No\r\nETag: W/\"a\"\r\n", false, "", `304 plain etag=W/"a"`, "", ""},
	{"HEAD", "HEAD", "", "200 OK\r\n" + textHead + "ETag: \"a\"\r\n", false, compressible, `200 gzip vary=[Accept-Encoding] etag=W/"a"`, "", ""},
	{"HEAD, client wants none", "HEAD", "Accept-Encoding: br\r\n", "200 OK\r\n" + textHead + "ETag: \"a\"\r\n", false, compressible, `200 plain vary=[Accept-Encoding] etag="a" length`, "", ""},
	{"HEAD of what is short", "HEAD", "", "200 OK\r\n" + textHead, false, "short", "200 plain length", "", ""},
	{"another type", "GET", "", "200 OK\r\nContent-Type: image/png\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n", false, compressible, `200 plain etag="a" ranges=bytes length`, "", ""},
	{"no type", "GET", "", "200 OK\r\n", false, compressible, "200 plain length", "", ""},
	{"gRPC", "GET", "", "200 OK\r\nContent-Type: application/grpc+proto\r\n", false, compressible, "200 plain length", "", ""},
	{"short", "GET", "", "200 OK\r\n" + textHead, false, compressible[:1023], "200 plain length", "", ""},
	{"just long enough", "GET", "", "200 OK\r\n" + textHead, false, compressible[:1024], "200 gzip vary=[Accept-Encoding]", "", ""},
	{"empty", "GET", "", "200 OK\r\n" + textHead, false, "", "200 plain length", "", ""},
	{"encoded already", "GET", "", "200 OK\r\n" + textHead + "Content-Encoding: x-own\r\n", false, compressible, "200 x-own length", "", ""},
	{"no-transform", "GET", "", "200 OK\r\n" + textHead + "Cache-Control: private, no-transform\r\n", false, compressible, "200 plain length", "200 gzip vary=[Accept-Encoding]", "RFC 9110 §7.7"},
	{"no-transform in the request", "GET", "Cache-Control: no-transform\r\n", "200 OK\r\n" + textHead, false, compressible, "200 plain length", "200 gzip vary=[Accept-Encoding]", "RFC 9111 §5.2.1.6"},
	{"Range, a part", "GET", "Range: bytes=0-9\r\n", "206 Part\r\n" + textHead + "Content-Range: bytes 0-9/2400\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n", false, compressible,
		`206 plain etag="a" ranges=bytes length`, "", ""},
	{"Range, the whole", "GET", "Range: bytes=0-9\r\n", "200 OK\r\n" + textHead + "ETag: \"a\"\r\nAccept-Ranges: bytes\r\n", false, compressible,
		`200 plain etag="a" ranges=bytes length`, `200 gzip vary=[Accept-Encoding] etag=W/"a"`, "who asks for a range puts it together with others"},
	{"206 that nobody asked for", "GET", "", "206 Part\r\n" + textHead + "Content-Range: bytes 0-9/2400\r\n", false, compressible, "206 plain length", "", ""},

	{"client wants none", "GET", "Accept-Encoding: gzip;q=0\r\n", "200 OK\r\n" + textHead, false, compressible, "200 plain vary=[Accept-Encoding] length", "", ""},
	{"client wants another", "GET", "Accept-Encoding: br\r\n", "200 OK\r\n" + textHead + "ETag: \"a\"\r\nAccept-Ranges: bytes\r\n", false, compressible,
		`200 plain vary=[Accept-Encoding] etag="a" ranges=bytes length`, "", ""},
	{"client says nothing", "GET", "Accept-Encoding:\r\n", "200 OK\r\n" + textHead, false, compressible, "200 plain vary=[Accept-Encoding] length", "", ""},
	{"client likes it less", "GET", "Accept-Encoding: gzip;q=0.5, identity\r\n", "200 OK\r\n" + textHead, false, compressible, "200 plain vary=[Accept-Encoding] length", "200 gzip vary=[Accept-Encoding]",
		"nginx reads the weight of gzip only"},
	{"client likes any", "GET", "Accept-Encoding: *\r\n", "200 OK\r\n" + textHead, false, compressible, "200 gzip vary=[Accept-Encoding]", "200 plain vary=[Accept-Encoding] length", "nginx does not know *"},
	{"a proxy before", "GET", "Via: 1.1 x\r\n", "200 OK\r\n" + textHead, false, compressible, "200 gzip vary=[Accept-Encoding]", "", ""}, // with gzip_proxied any
	{"checksums", "GET", "", "200 OK\r\n" + textHead + "Content-MD5: a\r\nDigest: sha-256=b\r\nContent-Digest: sha-256=:c=:\r\nRepr-Digest: sha-256=:d=:\r\n", false, compressible,
		"200 gzip vary=[Accept-Encoding]", "200 gzip vary=[Accept-Encoding] checksums=4", "they are wrong now (RFC 9530)"},
}

// answerCompressCase answers a request whose path is the number of a case.
func answerCompressCase(c net.Conn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		var n int
		if _, err := fmt.Sscanf(req.URL.Path, "/%d", &n); err != nil {
			return
		}
		tt := &compressCases[n]
		var b bytes.Buffer
		status, _, _ := strings.Cut(tt.response, "\r\n")
		fmt.Fprintf(&b, "HTTP/1.1 %s", tt.response)
		switch {
		case tt.chunks:
			fmt.Fprint(&b, "Transfer-Encoding: chunked\r\n\r\n")
			if tt.content != "" {
				fmt.Fprintf(&b, "%x\r\n%s\r\n", len(tt.content), tt.content)
			}
			fmt.Fprint(&b, "0\r\n\r\n")
		case strings.HasPrefix(status, "204"), strings.HasPrefix(status, "304"):
			fmt.Fprint(&b, "\r\n")
		default:
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(tt.content))
			if tt.method != http.MethodHead {
				fmt.Fprint(&b, tt.content)
			}
		}
		_, _ = c.Write(b.Bytes())
	}
}

// decoded returns content as it was before it was encoded.
func decodedContent(encoding string, r io.Reader) (string, error) {
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return "", err
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			return "", err
		}
		defer z.Close()
		r = z
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

// askCase asks for a case, and says what comes of it.
func askCase(t *testing.T, client *http.Client, site string, n int) string {
	t.Helper()
	tt := &compressCases[n]
	req, err := http.NewRequestWithContext(t.Context(), tt.method, fmt.Sprintf("%s/%d", site, n), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	for line := range strings.SplitSeq(strings.TrimSuffix(tt.request, "\r\n"), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			req.Header.Set(name, strings.TrimSpace(value))
		}
	}
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	return describedEncoding(res, tt.content)
}

// describedEncoding says how a response is encoded, and what it says of that.
func describedEncoding(res *http.Response, content string) string {
	h := res.Header
	encoding := h.Get("Content-Encoding")
	said := fmt.Sprint(res.StatusCode, " ", encoding)
	if encoding == "" {
		said += "plain"
	}
	if vary := h.Values("Vary"); len(vary) > 0 {
		said += fmt.Sprintf(" vary=%v", vary)
	}
	if tag := h.Get("ETag"); tag != "" {
		said += " etag=" + tag
	}
	if ranges := h.Get("Accept-Ranges"); ranges != "" {
		said += " ranges=" + ranges
	}
	sums := 0
	for _, name := range []string{"Content-MD5", "Digest", "Content-Digest", "Repr-Digest"} {
		sums += len(h.Values(name))
	}
	if sums > 0 {
		said += fmt.Sprint(" checksums=", sums)
	}
	if h.Get("Content-Length") != "" && (encoding == "" || encoding == "x-own" || res.Request.Method == http.MethodHead) {
		said += " length"
	}
	got, err := decodedContent(encoding, res.Body)
	switch {
	case res.Request.Method == http.MethodHead:
	case err != nil:
		said += " broken: " + err.Error()
	case got != content:
		said += fmt.Sprintf(" with %d other bytes", len(got))
	}
	return said
}

// bareClient returns a client of a site that asks for no encoding by itself.
func (s *trapSite) bareClient(t *testing.T) *http.Client {
	t.Helper()
	if s.client != nil {
		s.client.Transport.(*http.Transport).DisableCompression = true
		return s.client
	}
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestCompress: what is compressed is said to be, is what it was when it is decompressed, and
// nothing else changes.
func TestCompress(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{Rules: Rules{Compress: &Compress{Encodings: []Encoding{EncodingGzip}}}}, rawBackend(t, answerCompressCase))
			client := s.bareClient(t)
			for n, tt := range compressCases {
				if got := askCase(t, client, s.url, n); got != tt.want {
					t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
				}
			}
		})
	}
}

// encodingsOf are settings with a single encoding, at some levels.
func encodingsOf() (all []Compress) {
	for _, e := range []Encoding{EncodingGzip, EncodingZstd} {
		for _, level := range []int{1, 3, 6, 9} {
			all = append(all, Compress{Encodings: []Encoding{e}, Level: level, Types: []string{"*"}, MinLength: 1})
		}
	}
	return all
}

// TestCompressedContent: content of any size, and in pieces of any size, is what it was.
func TestCompressedContent(t *testing.T) {
	large := strings.Repeat(compressible, 300)
	for _, front := range trapFronts() {
		for _, cfg := range encodingsOf() {
			t.Run(fmt.Sprint(cfg.Encodings[0], " ", cfg.Level, "/", front.name), func(t *testing.T) {
				s := front.serve(t, HandlerConfig{Rules: Rules{Compress: &cfg}}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
					var size, piece int
					fmt.Sscanf(r.URL.Path, "/%d/%d", &size, &piece)
					w.Header().Set("Content-Type", "x/y")
					for rest := large[:size]; rest != ""; {
						n := min(piece, len(rest))
						io.WriteString(w, rest[:n])
						if rest = rest[n:]; piece < 5000 {
							w.(http.Flusher).Flush()
						}
					}
				}))
				client := s.bareClient(t)
				for _, size := range []int{1, 10, 5000, 128 << 10, len(large)} {
					for _, piece := range []int{max(size/7, 1), size} {
						req, _ := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/%d/%d", s.url, size, piece), nil)
						req.Header.Set("Accept-Encoding", "gzip, zstd")
						res, err := client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						want := fmt.Sprintf("200 %v vary=[Accept-Encoding]", cfg.Encodings[0])
						if got := describedEncoding(res, large[:size]); got != want {
							t.Errorf("%d bytes by %d: %q, want %q", size, piece, got, want)
						}
						res.Body.Close()
					}
				}
			})
		}
	}
}
