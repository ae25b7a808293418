package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/quietlog"
)

// Config is what a Server is made of.
type Config struct {
	config.Admin
	Log *slog.Logger // nil: silent
}

// Server answers on the socket and on the TCP listener of its configuration. An address
// that cannot be listened on is logged and tried again.
type Server struct {
	node     Node
	log      *slog.Logger
	settings atomic.Pointer[settings]
	doors    [2]*door
	routes   []route
	openAPI  func() ([]byte, error) // made when it is asked for first
	page     *page
	metrics  *metrics
	sessions sessions
	guesses  guesses
	instance string // tells this process's events from those of another one
}

// New returns a Server that does nothing before Run.
func New(cfg Config, node Node) *Server {
	s := &Server{
		node: node, log: quietlog.Limited(cfg.Log, nil),
		sessions: newSessions(), guesses: newGuesses(), page: newPage(node), metrics: newMetrics(node), instance: rand.Text()[:8],
	}
	s.routes = s.table()
	s.openAPI = sync.OnceValues(func() ([]byte, error) { return marshal(describeRoutes(s.routes)) })
	s.doors = [2]*door{newDoor(s, socketDoor{s}), newDoor(s, tcpDoor{s})}
	s.settings.Store(newSettings(cfg.Admin, nil))
	return s
}

// Run serves until ctx ends, and returns when all connections have ended.
func (s *Server) Run(ctx context.Context) error {
	var doors sync.WaitGroup
	for _, d := range s.doors {
		doors.Go(func() { d.run(ctx) })
	}
	doors.Go(func() { s.page.sampleEvery(ctx.Done()) })
	doors.Wait()
	return nil
}

// Reconfigure goes on with another configuration, and returns at once. Requests that come
// later go by its token and its certificates. A place to listen on that is new is opened
// before that of before is closed; what is the same is not touched.
func (s *Server) Reconfigure(cfg config.Admin) {
	s.settings.Store(newSettings(cfg, s.settings.Load()))
	for _, d := range s.doors {
		d.poke()
	}
}

// settings is a configuration, ready for use. It never changes.
type settings struct {
	config.Admin
	token secretSum
	files *certificates   // nil: no TLS
	names map[string]bool // in lower case: what TCP clients may call this host
}

// secretSum is a digest, by which secrets are compared in constant time whatever their
// lengths are. The zero value is that of no secret.
type secretSum [sha256.Size]byte

func sumOf(secret string) (sum secretSum) {
	if secret != "" {
		sum = sha256.Sum256([]byte(secret))
	}
	return sum
}

// samePaths leaves what the files have aside.
func samePaths(a, b config.AdminTLS) bool {
	a.Digest, b.Digest = "", ""
	return a == b
}

// newSettings takes over the certificates of old, which may be nil, if their files are the
// same: a renewed one is noticed anyway.
func newSettings(cfg config.Admin, old *settings) *settings {
	s := &settings{Admin: cfg, token: sumOf(cfg.Token.Reveal()), names: map[string]bool{"localhost": true}}
	if name, err := os.Hostname(); err == nil {
		s.names[strings.ToLower(name)] = true
	}
	for _, name := range cfg.Hostnames {
		s.names[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	switch {
	case cfg.TLS == nil:
	case old != nil && old.TLS != nil && samePaths(*old.TLS, *cfg.TLS):
		s.files = old.files
		s.files.lookNow()
	default:
		s.files = newCertificates(*cfg.TLS)
	}
	return s
}
