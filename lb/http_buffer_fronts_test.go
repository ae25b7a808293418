package lb

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// bufferFront is one of the shells, with buffering.
type bufferFront struct {
	name  string
	serve func(*testing.T, HandlerConfig, ...Backend) *bufferSite
}

// bufferSite is what a bufferFront serves.
type bufferSite struct {
	address     string
	handler     *Handler
	folder      string
	reconfigure func(HandlerConfig) error
}

// bufferFronts are both shells. Files begin at 1 KiB there, and are in a folder of the test.
func bufferFronts() []bufferFront {
	with := func(t *testing.T, cfg HandlerConfig, bs []Backend) HandlerConfig {
		if cfg.Pool == nil {
			cfg.Pool = newPool(t, PoolConfig{Backends: bs})
		}
		if cfg.Buffering == BufferingDefault {
			cfg.Buffering = BufferingOn
		}
		if cfg.BufferFolder == "" {
			cfg.BufferFolder = t.TempDir()
		}
		if cfg.BufferMemory == 0 {
			cfg.BufferMemory = 1 << 10
		}
		return cfg
	}
	return []bufferFront{
		{"Handler", func(t *testing.T, cfg HandlerConfig, bs ...Backend) *bufferSite {
			cfg = with(t, cfg, bs)
			s, h := shell{HandlerConfig: cfg, tracked: true}.serve(t)
			return &bufferSite{s.Listener.Addr().String(), h, cfg.BufferFolder, h.Reconfigure}
		}},
		{"loops", func(t *testing.T, cfg HandlerConfig, bs ...Backend) *bufferSite {
			cfg = with(t, cfg, bs)
			p, err := NewHTTP(HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1})
			if err != nil {
				t.Fatal(err)
			}
			ln := listenTest(t)
			serveHTTP(t, p, ln)
			return &bufferSite{ln.Addr().String(), p.handler, cfg.BufferFolder,
				func(cfg HandlerConfig) error {
					return p.Reconfigure(HTTPConfig{HandlerConfig: cfg, ShutdownTimeout: -1})
				}}
		}},
	}
}

// begin says the first part of a request, and waits until that is under way.
func (s *bufferSite) begin(t *testing.T, part string) *reader {
	t.Helper()
	before := s.handler.Stats().Active
	c := newReader(t, s.address)
	io.WriteString(c, part)
	waitFor(t, "the request to be under way", func() bool { return s.handler.Stats().Active > before })
	return c
}

// answers reads the answers to a request, and to another one that follows it. A Handler lets
// none follow chunks.
func (f *bufferFront) answers(t *testing.T, c *reader, head string) (n int) {
	t.Helper()
	want := 2
	if f.name == "Handler" && !*onEngine && strings.Contains(head, "chunked") {
		want = 1
	}
	for range want {
		if got, _ := c.status(t); got != 200 {
			t.Errorf("%s, %.200q: status %d", f.name, head, got)
		}
	}
	return want
}

// echo is a backend that answers with what it gets.
func echo(t *testing.T) Backend {
	return webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write(content)
	})
}

// status returns the status and the body of the next answer.
func (c *reader) status(t *testing.T) (int, string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body(t, res, nil)
}
