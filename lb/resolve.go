package lb

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/havip/havip/internal/retry"
)

// maxLookups bounds the names that Run resolves at once.
const maxLookups = 64

// Run resolves the names among the backends' addresses, now and every
// ResolveInterval, until ctx ends. A backend whose name has several addresses
// keeps the one it has while that is among them, and gets the lowest one
// otherwise. When the resolver fails the last answer stays. A pool
// without names need not be run.
func (p *Pool) Run(ctx context.Context) error {
	for pause := time.Duration(0); retry.Pause(ctx, pause); {
		start := time.Now()
		p.resolveAll(ctx)
		// A name without an answer must not make the others wait.
		pause = p.config().ResolveInterval - time.Since(start)
	}
	return nil
}

// resolveAll returns when each name has its answer, or has waited in vain for
// ResolveInterval.
func (p *Pool) resolveAll(ctx context.Context) {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	slots := make(chan struct{}, maxLookups)
	for _, m := range p.snap.Load().all {
		host, port := m.hostPort()
		if host == "" {
			continue
		}
		slots <- struct{}{}
		lookups.Go(func() {
			p.resolve(ctx, m, host, port)
			<-slots
		})
	}
}

// hostPort splits the address of m if a name is in it; host is empty otherwise.
func (m *member) hostPort() (host, port string) {
	network, address := network(m.Address)
	host, port, err := net.SplitHostPort(address)
	if network == "unix" || err != nil {
		return "", ""
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", ""
	}
	return host, port
}

func (p *Pool) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if f := p.config().Lookup; f != nil {
		return f(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func (p *Pool) resolve(ctx context.Context, m *member, host, port string) {
	ctx, cancel := context.WithTimeout(ctx, p.config().ResolveInterval)
	defer cancel()
	addrs, err := p.lookup(ctx, host)
	if err != nil || len(addrs) == 0 {
		if ctx.Err() != context.Canceled {
			level := slog.LevelWarn
			if m.unresolved.Swap(true) {
				level = slog.LevelDebug // said once
			}
			p.log.Log(ctx, level, "backend not resolved", "pool", p.config().Name, "backend", m.Name, "host", host,
				"err", err, "stays", *m.server.address.Load())
		}
		return
	}
	if m.unresolved.Swap(false) {
		p.log.Info("backend is resolved again", "pool", p.config().Name, "backend", m.Name, "host", host)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	if now := m.addrPort.Load(); now != nil && slices.Contains(addrs, now.Addr()) {
		return
	}
	chosen := net.JoinHostPort(slices.MinFunc(addrs, netip.Addr.Compare).String(), port)
	p.log.Info("backend resolved", "pool", p.config().Name, "backend", m.Name, "host", host, "address", chosen)
	p.mu.Lock()
	defer p.mu.Unlock()
	m.moveTo(chosen)
	p.watchers.push(p.snap.Load())
}
