package lb

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
	"github.com/havip/havip/lb/internal/h1"
)

// Buffering says whether the body of a request is read before a backend gets the request, so
// that a slow client occupies no backend.
type Buffering uint8

// The ways. See Rules.Buffering.
const (
	// BufferingDefault is on in [HTTP], and off in a [Handler] that something else serves.
	BufferingDefault Buffering = iota
	// BufferingOn has a backend chosen when the body has come whole.
	BufferingOn
	// BufferingOff passes a body on as it comes.
	BufferingOff
)

var bufferings = []string{"default", "on", "off"}

// String returns "default", "on" or "off".
func (b Buffering) String() string { return words.Of(bufferings, b) }

// MarshalText implements encoding.TextMarshaler.
func (b Buffering) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Buffering) UnmarshalText(text []byte) error { return words.Parse(bufferings, text, b) }

// The defaults of the fields that are about buffering.
const (
	defaultBufferMemory = replayLimit
	defaultBufferTotal  = 1 << 30
	// defaultBufferFolder is on a disk, where /tmp may be memory, and everybody may write there.
	defaultBufferFolder = "/var/tmp"
)

// validateBuffering returns what is wrong with the fields that are about buffering.
func (r *Rules) validateBuffering() error {
	return errors.Join(
		field.If(!words.Has(bufferings, r.Buffering), "Buffering", "%v: want %s", r.Buffering, words.Choice(bufferings)),
		field.Between("BufferMemory", r.BufferMemory, 1<<10, 16<<20),
		field.Between("BufferTotal", r.BufferTotal, 1<<20, 64<<30),
		field.If(!filepath.IsAbs(r.BufferFolder), "BufferFolder", "%q: want an absolute path", r.BufferFolder))
}

// newBodyStore returns where bodies are held.
func newBodyStore(r *Rules) *bodyStore {
	return &bodyStore{memory: r.BufferMemory, folder: r.BufferFolder, total: r.BufferTotal, used: new(atomic.Int64)}
}

// prepareBuffering makes the settings, and those of routes, count files together with those of
// before, and sees whether there can be files at all.
func (s *handlerSettings) prepareBuffering(prev *handlerSettings) {
	if prev != nil {
		s.bodies.used = prev.bodies.used
	}
	seen := make(map[string]bool) // whether a folder can be written
	for _, to := range s.all() {
		to.bodies.used = s.bodies.used
		if to.Buffering != BufferingOn {
			continue
		}
		writable, known := seen[to.BufferFolder]
		if !known {
			writable = to.canBuffer()
			seen[to.BufferFolder] = writable
		}
		if !writable {
			to.Buffering = BufferingOff
		}
	}
}

// canBuffer reports whether the folder can be written, and logs if not.
func (s *handlerSettings) canBuffer() bool {
	file, err := openNameless(s.BufferFolder)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		s.log.Warn("bodies of requests are not buffered: let havip write to the folder, choose another one, or turn buffering off",
			"folder", s.BufferFolder, "err", err)
	}
	return err == nil
}

// buffers reports whether the body of the request is read before a backend is chosen. A stream
// of gRPC, and of HTTP/2 in general, may go on for as long as both sides like, and whoever
// offers another protocol may wait for its peer.
func (x *exchange) buffers() bool {
	if x.cfg.Buffering != BufferingOn || x.major != 1 || x.req.Length == 0 || len(x.upgrades) > 0 {
		return false
	}
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; h1.EqualName(f.Name, "Content-Type") {
			return !strings.HasPrefix(strings.ToLower(f.Value[:min(len(f.Value), len(grpcType))]), grpcType)
		}
	}
	return true
}

// grpcType is how the media types of gRPC begin.
const grpcType = "application/grpc"

// bodyHeld tells that size bytes of the body are held. whole: that is all of it. Then a
// backend gets its length, also where the client has sent chunks, unless these have a trailer.
func (x *exchange) bodyHeld(size int64, whole bool) {
	if whole && len(x.trailers) == 0 {
		x.length = size
	}
}

// bufferingFailed tells that a body does not fit where it would be held. What has come goes to
// a backend, and the rest as it comes.
func (x *exchange) bufferingFailed(size int64, err error) {
	log := x.cfg.log.With("client", x.from.client, "folder", x.cfg.BufferFolder, "buffered", size, "total", x.cfg.BufferTotal, "err", err)
	if errors.Is(err, errStoreFull) || errors.Is(err, errStoreShare) {
		log.Warn("body of a request is not buffered to its end: allow bodies more bytes in files together")
		return
	}
	log.Warn("body of a request is not buffered to its end: make room in the folder, or choose another one")
}
