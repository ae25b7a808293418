package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// Compress has responses of backends compressed for clients that accept that, as nginx's gzip
// does. Those are compressed that have the status 200, 403 or 404, one of the Types, no
// Content-Encoding, and no less than MinLength bytes or an unknown length. A response to a
// request with Range, a part (206), what Cache-Control: no-transform is said of, calls of gRPC,
// and answers that are made here stay as they are, and clients of HTTP/1.0 get nothing
// compressed. HEAD is answered with the fields of GET. A compressed response has no
// Content-Length and no Accept-Ranges, its ETag is weak, and Vary names Accept-Encoding, also
// where another client would get it compressed.
//
// What is compressed may be guessed: who sees the length of a response on the wire, and can have
// a part of its text repeated in it, finds out the rest byte by byte, in spite of TLS (BREACH).
// Pages that show a secret, such as a token against forged requests, beside what a request says
// are safe only if the secret changes with each response, or they are not compressed: let their
// backends say Cache-Control: no-transform, or set no Types that they have.
type Compress struct {
	// Encodings are those that may be used: a client gets the first of those that it likes
	// best. None: nothing is compressed.
	Encodings []Encoding
	// Types are those of the content, without parameters; "*" is any. They are all: unlike
	// nginx's gzip_types they do not add to text/html. Default: HTML, CSS, JavaScript, JSON, XML
	// and other text, SVG and fonts that are not compressed as such; not text/event-stream,
	// which would hold its memory for as long as a client listens.
	Types []string
	// MinLength is up to which length it is not worth while, 1 byte to 1 GiB. Default 1 KiB.
	MinLength int64
	// Level is how much work is done, 1 to 9, as of gzip; of zstd there are three, from 1, 3
	// and 6 on. Default 1.
	Level int
	// MaxActive bounds the responses that are compressed at the same time. Further ones stay as
	// they are. Each needs about 1 MiB until its end, of zstd 2 MiB from level 3 and 5 MiB from
	// level 6 on, however slowly the client takes it. 1 to 1000000, default 256. It counts all
	// of a Handler.
	MaxActive int
}

// compressedTypes are the Types by default.
var compressedTypes = []string{
	"text/html", "text/plain", "text/css", "text/xml", "text/javascript", "text/csv", "text/markdown",
	"application/javascript", "application/json", "application/ld+json", "application/manifest+json", "application/problem+json",
	"application/xml", "application/xhtml+xml", "application/rss+xml", "application/atom+xml", "application/wasm",
	"image/svg+xml", "application/vnd.ms-fontobject", "font/ttf", "font/otf",
}

// WithDefaults returns c with its zero fields filled in. Without Encodings there is nothing to
// fill in.
func (c Compress) WithDefaults() Compress {
	if len(c.Types) == 0 {
		c.Types = compressedTypes
	}
	c.MinLength = cmp.Or(c.MinLength, 1<<10)
	c.Level = cmp.Or(c.Level, 1)
	c.MaxActive = cmp.Or(c.MaxActive, 256)
	return c
}

// Validate returns all that is wrong with c: FieldErrors, joined.
func (c Compress) Validate() error {
	c = c.WithDefaults()
	errs := []error{
		field.Between("MinLength", c.MinLength, 1, 1<<30),
		field.Between("Level", c.Level, 1, 9),
		field.Between("MaxActive", c.MaxActive, 1, 1000000),
	}
	for i, e := range c.Encodings {
		name := fmt.Sprintf("Encodings[%d]", i)
		errs = append(errs,
			field.If(!words.Has(encodings, e), name, "%v: want %s", e, words.Choice(encodings)),
			field.If(slices.Contains(c.Encodings[:i], e), name, "%v: want each once", e))
	}
	for i, kind := range c.Types {
		major, minor, _ := strings.Cut(kind, "/")
		errs = append(errs, field.If(kind != "*" && (!validHeader(major, "") || !validHeader(minor, "")),
			fmt.Sprintf("Types[%d]", i), `%q: want a type such as text/html, without parameters, or "*"`, kind))
	}
	return errors.Join(errs...)
}

// validateCompress returns what is wrong with the field Compress.
func validateCompress(c *Compress) error {
	if c == nil {
		return nil
	}
	if err := c.Validate(); err != nil {
		return field.In("Compress", err)
	}
	return nil
}

// compression is a Compress as responses need it.
type compression struct {
	encodings    []Encoding
	types        map[string]bool // in lower case
	anyType      bool
	minLength    int64
	level        int
	cost         int // see encodingCost
	maxAtOneTime int
}

// newCompression returns nil if nothing is compressed.
func newCompression(c *Compress) *compression {
	if c == nil || len(c.Encodings) == 0 {
		return nil
	}
	d := c.WithDefaults()
	k := &compression{encodings: slices.Clone(d.Encodings), types: make(map[string]bool), minLength: d.MinLength, level: d.Level, cost: encodingCost(d.Level), maxAtOneTime: d.MaxActive}
	for _, kind := range d.Types {
		k.anyType = k.anyType || kind == "*"
		k.types[strings.ToLower(kind)] = true
	}
	return k
}

// compress has the response compressed, if it fits and the client accepts that. x.answer has
// the fields that the client would get otherwise.
func (x *exchange) compress(res *h1.Response) {
	c := x.cfg.compression
	if c == nil || !c.fits(x, res) {
		return
	}
	x.varyByEncoding()
	if !x.modern() {
		return
	}
	e, ok := readAcceptance(x.req.Fields).choose(c.encodings)
	switch {
	case !ok:
		return
	case res.NoBody: // HEAD: the fields are those of a response to GET (RFC 9110 §9.3.2)
	case !x.count.beginCompressing(c.maxAtOneTime):
		return
	default:
		x.encoder, x.unbounded = takeEncoder(e, c.level), true
	}
	x.encoded = true
	x.encodeFields(e)
}

// fits reports whether a response would be compressed for a client that accepts it.
func (c *compression) fits(x *exchange, res *h1.Response) bool {
	switch res.Status {
	case http.StatusOK, http.StatusForbidden, http.StatusNotFound:
	default:
		return false
	}
	if holds(x.req.Has, h1.Range) || x.req.Method == http.MethodConnect || !res.NoBody && res.Length >= 0 && res.Length < c.minLength ||
		holds(x.req.Has, h1.CacheControl) && anyToken(x.req.Fields, h1.CacheControl, "no-transform") { // RFC 9111 §5.2.1.6
		return false
	}
	typed := false
	for i := range x.answer {
		switch f := &x.answer[i]; f.ID {
		case h1.ContentEncoding, h1.ContentRange:
			return false
		case h1.CacheControl:
			if h1.HasToken(f.Value, "no-transform") { // RFC 9110 §7.7
				return false
			}
		case h1.ContentType:
			if !c.hasType(f.Value) {
				return false
			}
			typed = true
		case h1.ContentLength: // of a response to HEAD
			if n, err := strconv.ParseInt(f.Value, 10, 64); err != nil || n < c.minLength {
				return false
			}
		}
	}
	return typed
}

// hasType reports whether content of a Content-Type is compressed.
func (c *compression) hasType(value string) bool {
	kind, _, _ := strings.Cut(value, ";")
	kind = strings.ToLower(strings.Trim(kind, " \t"))
	if strings.HasPrefix(kind, "application/grpc") {
		return false // it has a compression of its own, message by message
	}
	return c.types[kind] || c.anyType && kind != ""
}

// varyByEncoding tells caches that the response depends on what the client accepts.
func (x *exchange) varyByEncoding() {
	for i := range x.answer {
		if f := &x.answer[i]; f.ID == h1.Vary && (h1.HasToken(f.Value, acceptEncoding) || h1.HasToken(f.Value, "*")) {
			return
		}
	}
	x.answer = append(x.answer, h1.Field{Name: "Vary", Value: acceptEncoding, ID: h1.Vary})
}

// ofPlainContent are the fields that are true of the content as the backend sends it, and of no
// other: what is said of parts of it, and its checksums (RFC 9530).
var ofPlainContent = []string{"Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest"}

// isOfPlainContent reports whether a field is one of those.
func isOfPlainContent(name string) bool {
	return slices.ContainsFunc(ofPlainContent, func(other string) bool { return h1.EqualName(name, other) })
}

// encodeFields makes of x.answer the fields of a compressed response.
func (x *exchange) encodeFields(e Encoding) {
	kept := x.answer[:0]
	for _, f := range x.answer {
		switch {
		case f.ID == h1.ContentLength, isOfPlainContent(f.Name):
			continue
		case h1.EqualName(f.Name, "ETag"):
			if f.Value = x.weakETag(f.Value); f.Value == "" {
				continue
			}
		}
		kept = append(kept, f)
	}
	x.answer = append(kept, h1.Field{Name: "Content-Encoding", Value: e.String(), ID: h1.ContentEncoding})
}

// weakETag returns an ETag that says as much of content that is the same only when it is
// decompressed (RFC 9110 §8.8.3). What is none is dropped, as by nginx.
func (x *exchange) weakETag(tag string) string {
	switch {
	case strings.HasPrefix(tag, "W/"):
		return tag
	case !strings.HasPrefix(tag, `"`):
		return ""
	}
	start := len(x.text)
	x.text = append(append(x.text, "W/"...), tag...)
	return x.written(start)
}

// dropEncoder gives the encoder back. It is called as soon as the response has come whole, and
// at the latest by close.
func (x *exchange) dropEncoder() {
	if x.encoder != nil {
		x.encoder.release()
		x.encoder = nil
		x.count.compressing.Add(-1)
	}
}
