package lb

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
)

// nodeVar holds a node's configuration.
const nodeVar = "HAVIP_LB_TEST_NODE"

// node is a load balancer in a process of its own.
type node struct {
	Mode        string // http, net/http (which is a Handler alone), tcp or udp
	Listen      string
	Pool        PoolConfig
	SendProxy   int
	AcceptProxy []string
	Files       uint64 // limit of descriptors, 0 for the default
	Cert, Key   string // terminates TLS
	BackendTLS  bool   // to backends of whatever name
	Responses   int
	Foreign     bool // hides from the plane what kind of listener it has

	ConnectTimeout time.Duration

	Others []node // served by the same process
}

// nodeMain runs until it gets SIGTERM.
func nodeMain(config string) int {
	if err := runNode(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runNode(config string) error {
	runtime.GOMAXPROCS(2 * runtime.NumCPU()) // as havip itself does
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if path := os.Getenv("HAVIP_BENCH_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var n node
	if err := json.Unmarshal([]byte(config), &n); err != nil {
		return err
	}
	if n.Files > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n.Files, Max: n.Files}); err != nil {
			return err
		}
	}
	failed := make(chan error, len(n.Others))
	for _, other := range n.Others {
		go func() { failed <- other.serve(ctx) }()
	}
	err := n.serve(ctx)
	for range n.Others {
		err = errors.Join(err, <-failed)
	}
	return err
}

// serve runs one service.
func (n node) serve(ctx context.Context) error {
	pool, err := NewPool(n.Pool)
	if err != nil {
		return err
	}
	if n.Mode == "udp" {
		conn, err := ListenPacket(ctx, "udp", n.Listen)
		if err != nil {
			return err
		}
		u, err := NewUDP(UDPConfig{Pool: pool, Responses: n.Responses})
		if err != nil {
			return err
		}
		return u.Serve(ctx, conn)
	}
	ln, err := Listen(ctx, "tcp", n.Listen)
	if err != nil {
		return err
	}
	if n.Foreign {
		ln = foreign{ln}
	}
	var encrypted *tls.Config
	if n.Cert != "" {
		certs, err := NewCertificates(CertificateFile{Cert: n.Cert, Key: n.Key})
		if err != nil {
			return err
		}
		encrypted = &tls.Config{GetCertificate: certs.GetCertificate}
		if n.Mode != "tcp" {
			encrypted.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	var log *slog.Logger
	if n.Files > 0 { // what the test is about
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	handler := HandlerConfig{Pool: pool, Rules: Rules{SendProxy: ProxyVersion(n.SendProxy)}}
	switch n.Mode {
	case "tcp":
		return n.serveTCP(ctx, ln, TCPConfig{Pool: pool, TLS: encrypted, Logger: log})
	case "http":
		handler.Logger = log
		p, err := NewHTTP(HTTPConfig{HandlerConfig: handler, AcceptProxy: n.trusted(), TLS: encrypted, IdleTimeout: time.Hour, ShutdownTimeout: -1})
		if err != nil {
			return err
		}
		return p.Serve(ctx, ln)
	}
	return serveHandler(ctx, ln, handler, ListenerConfig{AcceptProxy: n.trusted(), TLS: encrypted, Logger: log})
}

// trusted are the networks of AcceptProxy.
func (n node) trusted() (list []netip.Prefix) {
	for _, p := range n.AcceptProxy {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func (n node) serveTCP(ctx context.Context, ln net.Listener, cfg TCPConfig) error {
	cfg.SendProxy, cfg.ShutdownTimeout, cfg.ConnectTimeout = ProxyVersion(n.SendProxy), -1, n.ConnectTimeout
	if n.BackendTLS {
		cfg.BackendTLS = &tls.Config{InsecureSkipVerify: true}
	}
	cfg.AcceptProxy = n.trusted()
	t, err := NewTCP(cfg)
	if err != nil {
		return err
	}
	err = t.Serve(ctx, ln)
	fmt.Println("paused:", t.Stats().Paused > 0)
	return err
}

// serveHandler serves requests by net/http alone, as an embedder does who mounts a Handler.
func serveHandler(ctx context.Context, ln net.Listener, cfg HandlerConfig, accept ListenerConfig) error {
	h, err := NewHandler(cfg)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if ln, err = NewListener(ln, accept); err != nil {
		return err
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
