package lb

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// engineAt serves the backends, or the Pool of the configuration, by a plane whose connections
// are in event loops. It passes bodies on as they come, as a Handler.
func engineAt(t *testing.T, cfg HTTPConfig, bs ...Backend) (address string, p *HTTP) {
	t.Helper()
	if cfg.Pool == nil {
		cfg.Pool = newPool(t, PoolConfig{Name: "web", Backends: bs})
	}
	cfg.Buffering = cmp.Or(cfg.Buffering, BufferingOff)
	p, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := p.Stats().Active; n != 0 {
			t.Errorf("%d requests are active", n)
		}
	})
	return ln.Addr().String(), p
}

// Bodies of all framings pass in both directions, on connections that are kept.
func TestEngineBodies(t *testing.T) {
	const size = 1 << 20 // some of it is spliced
	echo := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", r.Header.Get("X-Length"))
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	}
	address, _ := engineAt(t, HTTPConfig{}, webBackend(t, echo))
	content := strings.Repeat("0123456789abcdef", size/16)
	for range 3 {
		for _, path := range []string{"/known", "/chunks"} {
			for _, body := range []io.Reader{strings.NewReader(content), io.MultiReader(strings.NewReader(content))} {
				req, err := http.NewRequest("PUT", "http://"+address+path, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Length", "1048576")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				if err != nil || string(got) != content {
					t.Errorf("%s, %d bytes announced: %d bytes came back, %v", path, req.ContentLength, len(got), err)
				}
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
