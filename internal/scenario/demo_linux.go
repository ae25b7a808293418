package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/havip/havip/internal/lab"
)

// ErrDemoFailed is returned by Demo when a run has another outcome than it should; the
// output of Demo has the reason.
var ErrDemoFailed = errors.New("a run did not come out right")

// judge sets Err for a run whose outage the timers do not explain, though a busy machine may
// be late.
func (r *Result) judge(interval time.Duration) {
	if r.Err == nil && r.Outage > r.Allowed+interval+500*time.Millisecond {
		r.Err = errors.New("the client saw a longer outage than the timers allow")
	}
}

// Demo runs the four acceptance runs with havip on both load balancers and
// prints to w what happens as it happens. See [lab.Enter] for what may happen twice if
// Demo is not called early.
func Demo(ctx context.Context, w io.Writer, executable string, interval time.Duration) error {
	if err := lab.Enter(); err != nil {
		return err
	}
	params := Params{Interval: interval, Version: 2}
	if interval%time.Second != 0 {
		params.Version = 3 // version 2 counts in whole seconds
	}
	dir, err := os.MkdirTemp("", "havip-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := lab.Open()
	if err != nil {
		return err
	}
	defer l.Close()
	vrrp, balancer := Havip(executable), HavipBalancer(executable)
	s, err := New(l, dir, Config{Params: params, VRRP: [2]Program{vrrp, vrrp}, Balancer: [2]Program{balancer, balancer}})
	if err != nil {
		return err
	}
	defer s.Close()

	p := &printer{w: w, start: time.Now()}
	p.intro(params)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.Client.Run(ctx) })
	wg.Go(func() { p.watch(ctx, s) })
	p.printf("LB-01 starts, and listens for another router for %v before it takes the address", params.Down(priorities[0]).Round(time.Millisecond))
	err = s.Start(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
	if err != nil {
		p.failed(s)
		return err
	}
	for i, r := range Runs {
		p.printf("run %d: %s", i+1, r.Title)
		res := s.Do(ctx, r)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", ctx.Err())
		}
		res.judge(interval)
		p.result(i+1, res)
		if res.Err != nil {
			p.failed(s)
			return ErrDemoFailed // the next run starts from where this one should have ended
		}
	}
	p.summary()
	return nil
}

// printer writes one line at a time, each with the time since the start.
type printer struct {
	mu      sync.Mutex
	w       io.Writer
	start   time.Time
	results []Result
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%7.3fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

func (p *printer) intro(params Params) {
	auth := `, password "` + password + `"`
	if params.Version == 3 {
		auth = ""
	}
	p.printf("LB-01 %v priority %d, LB-02 %v priority %d, shared address %v", lbAddrs[0], priorities[0], lbAddrs[1], priorities[1], VIP.Addr())
	p.printf("VRRP version %d, VRID %d, unicast, no preemption, interval %v%s", params.Version, vrid, params.Interval, auth)
	p.printf("three web servers on %v; a client asks http://%v:%s/ all the time", appAddr, VIP.Addr(), servicePort)
}

// watch prints every change of the holder at once, and every second who
// answered.
func (p *printer) watch(ctx context.Context, s *Scenario) {
	var holder string
	counted := time.Now()
	for ctx.Err() == nil {
		if now := describe(s.Holders()); now != holder {
			p.printf("  %v: %s", VIP.Addr(), now)
			holder = now
		}
		if time.Since(counted) >= time.Second {
			answers := s.Client.Since(counted)
			counted = time.Now()
			if len(answers) == 0 {
				p.printf("  no answer")
			} else {
				p.printf("  answers: %s (through %s)", count(answers, func(a Answer) string { return a.Backend }),
					count(answers, s.through))
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// through names the load balancer that an answer came through.
func (s *Scenario) through(a Answer) string {
	for _, n := range s.LB {
		if n.Addr.String() == a.LB {
			return n.Name
		}
	}
	return a.LB
}

func (p *printer) result(number int, r Result) {
	p.results = append(p.results, r)
	if r.Err != nil {
		p.printf("run %d: WRONG: %v", number, r.Err)
		return
	}
	p.printf("run %d: right: %s holds the address; longest gap between answers %v%s", number, r.Holder,
		r.Outage.Round(time.Millisecond), allowed(r))
}

func allowed(r Result) string {
	if r.Allowed == 0 {
		return " (no move, no outage expected)"
	}
	return fmt.Sprintf(" (the timers allow %v)", r.Allowed.Round(time.Millisecond))
}

// failed prints the output of the programs, in which the cause of a failure can be found.
func (p *printer) failed(s *Scenario) {
	for _, n := range s.LB {
		p.printf("%s said:\n%s", n.Name, n.Output())
	}
}

func (p *printer) summary() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "\n%-70s %10s %10s\n", "run", "outage", "allowed")
	for i, r := range p.results {
		limit := "none"
		if r.Allowed > 0 {
			limit = r.Allowed.Round(time.Millisecond).String()
		}
		fmt.Fprintf(p.w, "%d %-68s %10v %10s\n", i+1, r.Title, r.Outage.Round(time.Millisecond), limit)
	}
}
