package lb

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestOwnedConnectionsAreFew: of one client's connections to backends few are kept, however many
// requests of HTTP/2 it has had at once, to however many backends, and none for long.
func TestOwnedConnectionsAreFew(t *testing.T) {
	for _, front := range greetedFronts {
		t.Run(front.name, func(t *testing.T) {
			t.Parallel() // it waits
			streams := 1
			if front.http2 {
				streams = 3 * maxOwned
			}
			release := make(chan struct{})
			arrived := make(chan struct{}, streams)
			var cfg PoolConfig
			var bs []*greeted
			for range 4 {
				b := greetedBackendFor(t, "plain", func() { arrived <- struct{}{}; <-release })
				bs, cfg.Backends = append(bs, b), append(cfg.Backends, b.Backend)
			}
			h := HandlerConfig{Pool: newPool(t, cfg)}
			h.SendProxy = ProxyV2
			ann := greetedClients(t, h, front.tls, front.http2)()
			open := func() (n int32) {
				for _, b := range bs {
					n += b.open.Load()
				}
				return n
			}
			ended := make(chan struct{})
			for range streams {
				go func() {
					defer func() { ended <- struct{}{} }()
					res, err := ann.Get(ann.s.URL)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}()
			}
			for range streams {
				<-arrived
			}
			if got := open(); got != int32(streams) {
				t.Errorf("%d connections for %d requests at once", got, streams)
			}
			close(release)
			for range streams {
				<-ended
			}
			waitFor(t, "few connections to be kept", func() bool { return open() <= maxOwned })
			start := time.Now()
			waitFor(t, "those to end as well", func() bool { return open() == 0 })
			if time.Since(start) > idleFor {
				t.Error("they were kept as long as others'")
			}
		})
	}
}

// TestOwnedConnectionsMakeRoom: those make room whose last use was first, wherever they lead.
func TestOwnedConnectionsMakeRoom(t *testing.T) {
	o, i := new(clientConn), new(idleConns)
	var all []*upstream
	for n := range 3 * maxOwned {
		c, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		u := newUpstream(c, destination{address: string(rune('a' + n%4)), header: "PROXY", owner: o})
		all = append(all, u)
		o.keepOwned(i, u)
	}
	for n, u := range all {
		if kept := i.removeConn(u); kept != (n >= 2*maxOwned) {
			t.Errorf("connection %d: kept %v", n, kept)
		}
		u.Close()
	}
}
