package lb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/havip/havip/internal/retry"
)

const (
	// maxLookups bounds the names that Run resolves at once.
	maxLookups = 64
	// maxAddresses bounds the addresses of one name that are used.
	maxAddresses = 1024
)

// Resolver is who knows the addresses of names. A net.Resolver does.
type Resolver interface {
	// LookupNetIP returns the addresses of a host, the preferred family first; network is
	// "ip".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// LookupSRV returns the SRV records of name; service and proto are empty. What comes
	// together with an error is used.
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

var _ Resolver = (*net.Resolver)(nil)

// Run resolves the names among the backends' addresses, now and every ResolveInterval, and
// those that Update brings at once, until ctx ends. An address that is new is used at once;
// one that is gone is treated as a removed backend, but that UDP sessions move with their
// next datagrams. When the resolver fails, or knows no address, the last answer stays. Of a
// family to which this host has no route no address is used, unless there is no other. With
// ResolveFirst a backend keeps the address that it has while that is in the answer, and
// else gets the lowest one of the family that the resolver prefers (RFC 6724). A pool
// without names need not be run.
func (p *Pool) Run(ctx context.Context) error {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	slots := make(chan struct{}, maxLookups)
	var begun time.Time // the latest round of all names
	for first := true; ctx.Err() == nil; first = false {
		var round sync.WaitGroup
		all := first || time.Since(begun) >= p.config().ResolveInterval
		if all {
			begun = time.Now()
		}
		for _, n := range p.snap.Load().names {
			// A name without an answer must not make the others wait.
			if !all && n.asked.Load() || n.asking.Swap(true) {
				continue
			}
			slots <- struct{}{}
			round.Add(1)
			lookups.Go(func() {
				defer round.Done()
				p.asking.Add(1)
				answer := p.resolve(ctx, n)
				p.asking.Add(-1)
				n.asked.Store(true)
				n.asking.Store(false)
				<-slots
				p.learn(ctx, news{n, answer})
			})
		}
		if first {
			lookups.Go(func() { round.Wait(); p.settleNames() })
		}
		p.awaitNames(ctx, time.Until(begun.Add(p.config().ResolveInterval)))
	}
	return nil
}

// awaitNames waits until names are due, or there are others, or they are due at another time.
func (p *Pool) awaitNames(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.renamed:
	case <-ctx.Done():
	}
}

// Resolved returns a channel that is closed when Run has got the first answers: each name
// that the pool had when Run began was answered, or was waited for in vain for
// ResolveInterval. Whoever begins to serve only then, or when it takes too long, has no
// datagrams for a backend whose address is not known.
func (p *Pool) Resolved() <-chan struct{} { return p.ready }

// settleNames says that the first answers are there, and what the log waited for with them.
func (p *Pool) settleNames() {
	p.settled.Do(func() {
		close(p.ready)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.logged.settled = true
		if s := p.snap.Load(); len(s.unresolved) > 0 {
			p.logged.report(p.log, s, p.census)
		}
	})
}

// news is an answer; nil: there was none.
type news struct {
	*hostname
	answer []endpoint
}

// learn has the pool use an answer, together with those that come at the same time:
// thousands of names cost few looks at the pool.
func (p *Pool) learn(ctx context.Context, latest news) {
	p.mu.Lock()
	p.news = append(p.news, latest)
	p.mu.Unlock()

	p.learning <- struct{}{}
	defer func() { <-p.learning }()
	if !p.hasNews() {
		return // it was learned together with others
	}
	if p.asking.Load() > 0 {
		retry.Pause(ctx, refreshPause) // there will be more
	}
	p.mu.Lock()
	all := p.news
	p.news = nil
	p.mu.Unlock()
	start := time.Now()
	if p.apply(all) {
		retry.Pause(ctx, min(10*time.Since(start), time.Second))
	}
}

// hasNews reports whether there are answers that are not part of the pool yet.
func (p *Pool) hasNews() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.news) > 0
}

// apply has the pool use answers, and reports whether something has changed.
func (p *Pool) apply(all []news) (changed bool) {
	p.updating.Lock()
	defer p.updating.Unlock()
	for _, latest := range all {
		if n := latest.hostname; len(latest.answer) > 0 && !slices.Equal(n.answer, latest.answer) {
			n.answer, changed = latest.answer, true
		}
	}
	if changed {
		p.update(p.config(), p.snap.Load().backends)
	}
	return changed
}

// resolve asks for a name, and logs what is new.
func (p *Pool) resolve(ctx context.Context, n *hostname) []endpoint {
	ctx, cancel := context.WithTimeout(ctx, p.config().ResolveInterval)
	defer cancel()
	p.updating.Lock()
	last := n.answer
	p.updating.Unlock()
	answer, err := p.ask(ctx, n.address, last)
	log := p.log.With("pool", p.config().Name, "backend", n.backend, "host", n.host())
	if len(answer) > maxAddresses {
		err = errors.Join(err, fmt.Errorf("%d addresses, of which %d are used", len(answer), maxAddresses))
		answer = answer[:maxAddresses]
	}
	switch {
	case ctx.Err() == context.Canceled:
		return nil
	case err != nil:
		level := slog.LevelWarn
		if n.unresolved {
			level = slog.LevelDebug // said once
		}
		log.Log(ctx, level, "backend not resolved", "err", err, "stays", cmp.Or(addressesOf(answer), addressesOf(last), n.address))
	case n.unresolved:
		log.Info("backend is resolved again")
	}
	n.unresolved = err != nil
	if len(answer) > 0 && !slices.Equal(answer, last) {
		log.Info("backend resolved", "addresses", addressesOf(answer))
	}
	return answer
}

// addressesOf lists an answer for the log.
func addressesOf(answer []endpoint) string {
	const most = 16
	var list []string
	for _, e := range answer[:min(len(answer), most)] {
		list = append(list, e.to.String())
	}
	if more := len(answer) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, " ")
}

// ask resolves the address of a backend, in the order of preference. Part of an answer may
// come together with an error. last is the answer before.
func (p *Pool) ask(ctx context.Context, address string, last []endpoint) ([]endpoint, error) {
	r := p.config().Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	if isSRV(address) {
		return p.askSRV(ctx, r, address, last)
	}
	host, port, err := net.SplitHostPort(address)
	number, perr := strconv.ParseUint(port, 10, 16)
	if err = errors.Join(err, perr); err != nil {
		return nil, err // Validate has seen to that
	}
	addrs, err := p.askHost(ctx, r, host)
	var answer []endpoint
	for _, a := range addrs {
		answer = append(answer, endpoint{to: netip.AddrPortFrom(a, uint16(number))})
	}
	return answer, err
}

// askHost returns the addresses of a host that this host can reach: those of the preferred
// family first, and the lowest first. What no host has, such as the 0.0.0.0 of resolvers that
// block a name, would lead to this host.
func (p *Pool) askHost(ctx context.Context, r Resolver, host string) ([]netip.Addr, error) {
	answer, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range answer {
		if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("no address of a host: %v", answer)
	}
	preferred := addrs[0].Is4()
	addrs = routed(addrs, p.hasRoute)
	slices.SortFunc(addrs, func(a, b netip.Addr) int {
		if a.Is4() != b.Is4() {
			if a.Is4() == preferred {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	})
	return slices.Compact(addrs), nil
}

// routed leaves out the addresses of a family to none of which there is a route, if there
// is a route to the other family.
func routed(addrs []netip.Addr, hasRoute func(netip.Addr) bool) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	if len(v4) == 0 || len(v6) == 0 {
		return addrs
	}
	switch to4, to6 := slices.ContainsFunc(v4, hasRoute), slices.ContainsFunc(v6, hasRoute); {
	case to4 && !to6:
		return v4
	case to6 && !to4:
		return v6
	}
	return addrs
}

// hasRoute reports whether this host could send something to an address, unless that
// cannot be told. Nothing is sent.
func hasRoute(a netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err == nil {
		c.Close()
	}
	return !isAny(err, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT)
}

// askSRV returns the addresses of the hosts in SRV records: first those of the records
// whose priority is the best.
func (p *Pool) askSRV(ctx context.Context, r Resolver, address string, last []endpoint) (answer []endpoint, err error) {
	_, records, err := r.LookupSRV(ctx, "", "", address)
	// A target of "." says that there is no such service (RFC 2782).
	records = slices.DeleteFunc(records, func(s *net.SRV) bool { return strings.Trim(s.Target, ".") == "" || s.Port == 0 })
	if len(records) == 0 {
		return nil, cmp.Or(err, errors.New("no SRV records"))
	}
	addrs, errs := p.askTargets(ctx, r, records)
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	weighted := slices.ContainsFunc(records, func(s *net.SRV) bool { return s.Weight > 0 })
	for i, s := range records {
		e := endpoint{target: s.Target, backup: s.Priority != best}
		if weighted {
			e.weight = max(int(s.Weight), 1) // 0 stands for a small share
		}
		if errs[i] != nil { // the target stays where it was
			for _, before := range last {
				if before.target == s.Target {
					addrs[i] = append(addrs[i], before.to.Addr())
				}
			}
			err = errors.Join(err, errs[i])
		}
		for _, a := range addrs[i] {
			e.to = netip.AddrPortFrom(a, s.Port)
			answer = append(answer, e)
		}
	}
	// The same on all nodes, whatever the order of the records.
	slices.SortStableFunc(answer, func(a, b endpoint) int {
		if a.backup != b.backup {
			if b.backup {
				return -1
			}
			return 1
		}
		return cmp.Or(a.to.Compare(b.to), strings.Compare(a.target, b.target), cmp.Compare(a.weight, b.weight))
	})
	return answer, err
}

// maxTargets bounds the targets of one name that are resolved at once.
const maxTargets = 8

// askTargets resolves the targets of SRV records.
func (p *Pool) askTargets(ctx context.Context, r Resolver, records []*net.SRV) (addrs [][]netip.Addr, errs []error) {
	addrs, errs = make([][]netip.Addr, len(records)), make([]error, len(records))
	var all sync.WaitGroup
	slots := make(chan struct{}, maxTargets)
	for i, s := range records {
		slots <- struct{}{}
		all.Go(func() {
			if addrs[i], errs[i] = p.askHost(ctx, r, strings.TrimSuffix(s.Target, ".")); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", s.Target, errs[i])
			}
			<-slots
		})
	}
	all.Wait()
	return addrs, errs
}
