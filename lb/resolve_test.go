package lb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// testDNS is a Resolver. A nil function knows nothing.
type testDNS struct {
	host func(ctx context.Context, host string) ([]string, error)
	srv  func(name string) ([]*net.SRV, error)
}

func (d testDNS) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	texts, err := d.host(ctx, host)
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, err
}

func (d testDNS) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	records, err := d.srv(service + proto + name)
	return name, records, err
}

// hostsOf is a Resolver of hosts alone.
func hostsOf(f func(host string) ([]string, error)) Resolver {
	return testDNS{host: func(_ context.Context, host string) ([]string, error) { return f(host) }}
}

func TestResolveFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer atomic.Value
		type reply struct {
			addrs []string
			err   error
		}
		set := func(err error, addrs ...string) { answer.Store(reply{addrs, err}) }
		p := newPool(t, PoolConfig{
			Backends:        []Backend{{Address: "app.test:80", Resolve: ResolveFirst}, {Address: "192.0.2.1:80"}, {Address: "unix:/x"}},
			ResolveInterval: time.Second,
			Resolver: hostsOf(func(host string) ([]string, error) {
				if host != "app.test" {
					t.Errorf("asked for %q", host)
				}
				r := answer.Load().(reply)
				return r.addrs, r.err
			}),
		})
		set(errors.New("no answer"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		step := func(what, want string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if got := p.Status().Backends[0].Resolved; got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		step("never resolved", "app.test:80")
		set(nil, "192.0.2.9", "192.0.2.7")
		step("the lowest of several", "192.0.2.7:80")
		set(nil, "192.0.2.5", "192.0.2.7")
		step("still among them", "192.0.2.7:80")
		set(errors.New("no answer"))
		step("resolver down", "192.0.2.7:80")
		set(nil)
		step("empty answer", "192.0.2.7:80")
		set(nil, "2001:db8::1")
		step("moved", "[2001:db8::1]:80")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A name that nobody answers for delays no other, not even the next time.
func TestResolveDoesNotWaitForADeadName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		start := time.Now()
		p := newPool(t, PoolConfig{
			Backends:        []Backend{{Address: "dead.test:80"}, {Address: "dead.test:81"}, {Address: "app.test:80"}},
			ResolveInterval: 10 * time.Second,
			Resolver: testDNS{host: func(ctx context.Context, host string) ([]string, error) {
				if host == "dead.test" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				asked = append(asked, time.Since(start))
				return []string{"192.0.2.7"}, nil
			}},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		if want := []time.Duration{0, 10 * time.Second, 20 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("app.test was asked for after %v, want %v", asked, want)
		}
		if got := p.Status().Backends[2].Resolved; got != "192.0.2.7:80" {
			t.Errorf("app.test resolved to %s", got)
		}
	})
}

// However many names there are, the resolver is asked for a bounded number at once.
func TestResolveManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bs []Backend
		for i := range 3 * maxLookups {
			bs = append(bs, Backend{Address: fmt.Sprintf("app%d.test:80", i)})
		}
		var now, most, all atomic.Int64
		p := newPool(t, PoolConfig{Backends: bs, Resolver: hostsOf(func(string) ([]string, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			all.Add(1)
			return []string{"192.0.2.7"}, nil
		})})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		p.Run(ctx)
		if most.Load() > maxLookups || all.Load() != 3*maxLookups {
			t.Errorf("%d names, %d at once; want %d, at most %d", all.Load(), most.Load(), 3*maxLookups, maxLookups)
		}
	})
}

// While the resolver is silent about one name, the answers of hundreds of others take
// effect together, and nothing piles up behind them.
func TestAnswersDoNotQueueUpBehindADeadName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := []Backend{{Address: "dead.test:80"}}
		for i := range 500 {
			bs = append(bs, Backend{Address: fmt.Sprintf("app%d.test:80", i)})
		}
		p := newPool(t, PoolConfig{Backends: bs, ResolveInterval: time.Second, Resolver: testDNS{
			host: func(ctx context.Context, host string) ([]string, error) {
				if host == "dead.test" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return []string{"192.0.2.7"}, nil
			},
		}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		before := runtime.NumGoroutine()
		go p.Run(ctx)
		began := time.Now()
		<-p.Resolved()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the first answers took effect after %v, though the dead name was given up after 1s", took)
		}
		time.Sleep(10*time.Second + time.Second/2) // in the middle between two rounds
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 100 {
			t.Errorf("%d goroutines wait in the middle between two rounds", n)
		}
	})
}
