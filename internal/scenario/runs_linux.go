package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Result is what one acceptance run showed.
type Result struct {
	Title   string
	Holder  string        // who has the address at the end if the run came out right
	Outage  time.Duration // the longest gap between good answers
	Allowed time.Duration // the outage that VRRP's timers (and the check's) allow; 0: none
	Err     error         // why the run did not come out right
}

// Run is one of the four acceptance runs. They build on one another.
type Run struct {
	Title string
	// Expect is who has the address at the end: 0 LB-01, 1 LB-02.
	Expect int
	// Allowed is the longest outage that the timers allow.
	Allowed func(p Params) time.Duration
	// Do starts what the run is about.
	Do func(s *Scenario) error
	// Watch is for how many Down intervals the run goes on after the address
	// is where it should be: long enough for a wrong move to show.
	Watch int
}

// Runs are the four acceptance runs of the reference scenario, in order.
var Runs = []Run{
	{
		Title:  "both healthy: LB-01 serves, the three apps answer in turn",
		Expect: 0, Watch: 1,
		Allowed: func(Params) time.Duration { return 0 },
		Do:      func(*Scenario) error { return nil },
	},
	{
		Title:  "LB-01 dies: LB-02 takes the address over",
		Expect: 1, Watch: 1,
		Allowed: func(p Params) time.Duration { return p.Down(priorities[1]) },
		Do:      func(s *Scenario) error { return s.LB[0].PowerOff() },
	},
	{
		Title:  "LB-01 returns: LB-02 keeps the address (no preemption)",
		Expect: 1, Watch: 2,
		Allowed: func(Params) time.Duration { return 0 },
		Do:      func(s *Scenario) error { return s.LB[0].PowerOn() },
	},
	{
		Title:  "the balancer on LB-02 fails its check: LB-01 takes the address over",
		Expect: 0, Watch: 1,
		Allowed: func(p Params) time.Duration { return p.checkDown() + p.skew(priorities[0]) },
		Do:      func(s *Scenario) error { s.LB[1].KillBalancer(); return nil },
	},
}

// bound is for how long anything that the timers promise is waited for: a busy
// machine is late, which is no reason to call a run wrong.
const bound = 30 * time.Second

// poll asks cond every few milliseconds until cond returns nil. It returns cond's last
// error once ctx has ended, or after bound.
func poll(ctx context.Context, cond func() error) error {
	for end := time.Now().Add(bound); ; time.Sleep(2 * time.Millisecond) {
		if err := cond(); err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
	}
}

// Start powers LB-01 on, waits until it serves, and then powers LB-02 on.
func (s *Scenario) Start(ctx context.Context) error {
	for _, n := range s.LB {
		if err := n.PowerOn(); err != nil {
			return err
		}
		if err := s.waitHolder(ctx, s.LB[0]); err != nil {
			return err
		}
	}
	return nil
}

// Do carries out one run. The client must be running.
func (s *Scenario) Do(ctx context.Context, r Run) Result {
	want := s.LB[r.Expect]
	res := Result{Title: r.Title, Holder: want.Name, Allowed: r.Allowed(s.params)}
	from := time.Now()
	res.Err = s.carryOut(ctx, r, want)
	res.Outage = s.Client.LongestGap(from)
	return res
}

func (s *Scenario) carryOut(ctx context.Context, r Run, want *Node) error {
	if err := r.Do(s); err != nil {
		return err
	}
	if err := s.waitHolder(ctx, want); err != nil {
		return err
	}
	moved := time.Now()
	through := func(a Answer) bool { return a.LB == want.Addr.String() }
	err := poll(ctx, func() error {
		if slices.ContainsFunc(s.Client.Since(moved), through) {
			return nil
		}
		return fmt.Errorf("through %s: no answer in time; last failure: %v", want.Name, s.Client.lastError())
	})
	if err != nil {
		return err
	}
	if err := s.staysWith(ctx, want, time.Duration(r.Watch)*s.params.Down(1)); err != nil {
		return err
	}
	var answers []Answer
	err = poll(ctx, func() error {
		if answers = s.Client.Since(moved); len(answers) < enoughAnswers {
			return fmt.Errorf("%d answers in time, want %d", len(answers), enoughAnswers)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return inTurn(answers)
}

// enoughAnswers is how many it takes to say whether they came in turn.
const enoughAnswers = 12

// staysWith watches for d that want alone holds the address.
func (s *Scenario) staysWith(ctx context.Context, want *Node, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if holders := s.Holders(); len(holders) != 1 || holders[0] != want {
			return fmt.Errorf("%s held %v alone, but then %s", want.Name, VIP.Addr(), describe(holders))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// inTurn checks that all the web servers answered, none much more often than
// another. Requests overlap, so the order seen here is not exactly theirs.
func inTurn(answers []Answer) error {
	n := map[string]int{}
	for _, a := range answers {
		n[a.Backend]++
	}
	least, most := len(answers), 0
	for i := range appPorts {
		least, most = min(least, n[appName(i)]), max(most, n[appName(i)])
	}
	if least == 0 || most > least+least/5+3 {
		return errors.New("the apps did not answer in turn: " + count(answers, func(a Answer) string { return a.Backend }))
	}
	return nil
}
