package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// trial is one death: LB-01 has the address, something happens to it, and LB-02
// takes over. Trials stand for themselves, so that several can be under way.
type trial struct {
	interval time.Duration
	peers    [2]peer // what LB-01 and LB-02 run
	cause    *cause
	// phase is how long after an advertisement it happens, less than the
	// interval.
	phase time.Duration
	// fine: what it shows is a figure, to the millisecond. Otherwise a dozen others
	// run at the same time.
	fine bool
	// address is the virtual address. Default: newRouter's.
	address netip.Prefix
	// edit, if set, changes the virtual router of both.
	edit func(*virtualRouter)
	// impossible: this machine cannot do it.
	impossible bool
}

// cause is a way to die.
type cause struct {
	name string
	// prepare, if set, is called before LB-01's program is started.
	prepare func(s *stage) error
	// strike does it.
	strike func(s *stage) error
	// told: priority 0 tells LB-02, which takes over after its skew time.
	// Otherwise it waits until it has heard nothing for three intervals and
	// that.
	told bool
	// leased: maybe nobody removes the address from LB-01 but the kernel.
	leased bool
	// ends are who may have the address in the end. Default: LB-02.
	ends []holders
	// heal, if set, undoes it, whereupon LB-01 takes the address back.
	heal func(s *stage) error
	// healed is who has the address after that. Default: LB-01.
	healed holders
}

// result is what a trial measured.
type result struct {
	// outage is the time until LB-02 answered the client: what it misses if the
	// service died with LB-01's program. Whoever says that it goes has no address
	// after that.
	outage time.Duration
	// silence is the longest time in which nobody answered it: what it misses if
	// the service on LB-01 lives on. Here the kernel answers.
	silence time.Duration
	// both is for how long both nodes had the address, and forgood tells that
	// they still had in the end.
	both    time.Duration
	forgood bool
	// told: LB-01 has sent priority 0.
	told bool
	// stalled is by how much this machine was late to let even the witness run,
	// until LB-02 answered.
	stalled time.Duration
	// late is the same until all was over.
	late time.Duration
	// doubtful: when it happened LB-01 may not have been Active any more, as the
	// machine was too busy for the interval.
	doubtful bool
	// past is how much later LB-02 answered than the protocol's timers allow.
	past time.Duration
	// healed is how long it took LB-01 to have the address back alone, and
	// bothHealed for how much of it both had it.
	healed, bothHealed time.Duration
}

// LB-02's priority is the default one. That of LB-01 makes it the first to have
// the address though both start at once.
var deathPriority = [2]uint8{254, 100}

// skew and down are for how long LB-02 waits when it was told and when it hears
// nothing any more.
func (tr *trial) skew() time.Duration { return tr.interval * (256 - 100) / 256 }
func (tr *trial) down() time.Duration { return 3*tr.interval + tr.skew() }

func (tr *trial) String() string {
	return fmt.Sprintf("%s: %s, peer %s, interval %v", tr.peers[0].name, tr.cause.name, tr.peers[1].name, tr.interval)
}

// stage is where a trial takes place.
type stage struct {
	trial  *trial
	lab    *lab.Lab
	nodes  [2]*node
	client *lab.Host
	vip    netip.Addr
	// inside runs a function in a node's network namespace.
	inside  [2]func(func() error) error
	witness *witness
	ns      netns.NsHandle // of LB-01, see ownNamespace
	enter   []string       // see confine
	cleanup []func() error // after the programs have ended
	from    time.Time      // when it happened
}

// errImpossible is found in the error of a trial that this machine cannot do.
var errImpossible = errors.New("cannot be done here")

// run does the trial. The files of the programs are in dir.
func (tr *trial) run(dir string) (r result, err error) {
	s := &stage{trial: tr, ns: netns.None()}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%v: %w%s", tr, err, s.outputs())
		}
		err = errors.Join(err, s.close())
	}()
	if err := s.open(dir); err != nil {
		return r, err
	}
	if err := s.settle(); err != nil {
		return r, err
	}
	time.Sleep(tr.phase)
	s.from = time.Now()
	if err := tr.cause.strike(s); err != nil {
		return r, err
	}
	ends := tr.cause.ends
	if ends == nil {
		ends = []holders{lb02}
	}
	if err := s.await("the address is where it belongs", ends...); err != nil {
		return r, err
	}
	r = s.measure()
	if err := tr.judge(r); err != nil || tr.cause.heal == nil {
		return r, err
	}
	healed := time.Now()
	if err := tr.cause.heal(s); err != nil {
		return r, err
	}
	back := cmp.Or(tr.cause.healed, lb01)
	err = s.await(fmt.Sprintf("%v has the address after all", back), back)
	r.healed, r.bothHealed = time.Since(healed), s.witness.both(healed)
	return r, err
}

// measure says what came of it.
func (s *stage) measure() result {
	by, _ := s.witness.now()
	r := result{
		silence: s.witness.silence(s.from), both: s.witness.both(s.from), forgood: by == both,
		told:     slices.ContainsFunc(s.witness.heard(s.from), func(a advert) bool { return a.side == 0 && a.priority == 0 }),
		doubtful: s.doubtful(),
	}
	r.outage = r.silence
	end := time.Now()
	if at, ok := s.witness.answers(s.from); ok {
		end = at
		r.past = at.Sub(s.due())
		if !r.told {
			r.outage = at.Sub(s.from)
		}
	}
	r.stalled, r.late = s.witness.stalled(s.from, end), s.witness.stalled(s.from, time.Now())
	return r
}

// doubtful reports whether LB-01 may not have been Active when it happened: LB-02
// advertised, or LB-01 had not for so long that it steps down by itself, or LB-02
// took over before it could have lost patience with LB-01 afterwards. LB-01 may also
// have been kept from running right before it heard of it, as it then says.
func (s *stage) doubtful() bool {
	interval := s.trial.interval
	var last, heir time.Time // LB-01's last advertisement, and LB-02's first after that
	for _, a := range s.witness.heard(s.from.Add(-4 * interval)) {
		switch {
		case a.side == 0 && a.priority > 0 && heir.IsZero():
			last = a.at
		case a.side == 1 && a.priority > 0 && heir.IsZero():
			heir = a.at
		}
	}
	return strings.Contains(s.nodes[0].cmd.Output(), vrrp.CauseStalled.String()) ||
		last.Before(s.from.Add(-3*interval)) || !heir.IsZero() && heir.Before(last.Add(3*interval))
}

// open makes the hosts and the witness.
func (s *stage) open(dir string) error {
	var err error
	if s.lab, err = lab.Open(); err != nil {
		return err
	}
	router := newRouter("VI_1", 51, 3, "", false, false, deathPriority)
	router.interval = s.trial.interval
	if s.trial.address.IsValid() {
		router.addresses = []netip.Prefix{s.trial.address}
	}
	if s.trial.edit != nil {
		s.trial.edit(&router)
	}
	s.vip = router.addresses[0].Addr()
	for i := range s.nodes {
		own := netip.MustParsePrefix(fmt.Sprintf("192.168.31.%d/24", 240+i))
		h, err := s.lab.Host(fmt.Sprintf("lb%02d", i+1), own)
		if err != nil {
			return err
		}
		n := &node{side: i, peer: s.trial.peers[i], host: h, own: []netip.Prefix{own}, routers: []virtualRouter{router}}
		if n.dir, err = os.MkdirTemp(dir, h.Name()); err != nil {
			return err
		}
		s.nodes[i], s.inside[i] = n, h.Do
	}
	s.nodes[0].other, s.nodes[1].other = s.nodes[1], s.nodes[0]
	if s.client, err = s.lab.Host("client", netip.MustParsePrefix("192.168.31.9/24")); err != nil {
		return err
	}
	if s.trial.cause.prepare != nil {
		if err := s.trial.cause.prepare(s); err != nil {
			return err
		}
	}
	beat := time.Millisecond
	if !s.trial.fine {
		beat = min(max(s.trial.interval/100, beat), 5*beat)
	}
	s.witness, err = newWitness(beat, s.client, s.inside, s.vip, func(src netip.Addr) int {
		return slices.IndexFunc(s.nodes[:], func(n *node) bool { return n.own[0].Addr() == src })
	})
	return err
}

// start starts a node's program.
func (s *stage) start(side int) error {
	n := s.nodes[side]
	argv, err := n.peer.configure(n, n.routers, n.dir)
	if err != nil {
		return err
	}
	n.cmd = n.host.Command(argv[0], argv[1:]...)
	n.cmd.Dir, n.cmd.Private = n.dir, true
	return n.cmd.Start()
}

// settle starts both nodes and waits until LB-01 has the address and LB-02 has
// heard that.
func (s *stage) settle() error {
	for i, n := range s.nodes {
		if err := s.start(i); err != nil {
			return err
		}
		err := s.until(fmt.Sprintf("LB-%02d is there", i+1), func() bool { return n.transitions() > 0 })
		if err != nil {
			return err
		}
	}
	if err := s.await("LB-01 has the address", lb01); err != nil {
		return err
	}
	// At short intervals LB-02 may have lost patience with LB-01 on a busy
	// machine, and have to find out.
	then, seen := time.Now(), 0
	return s.until("LB-01 advertises", func() bool {
		list := s.witness.heard(then)
		n := len(list)
		by, _ := s.witness.now()
		fresh := n > seen && n >= 2 && list[n-1].side == 0 && list[n-2].side == 0
		seen = n
		return fresh && by == lb01
	})
}

// await waits until the address is held as wanted, and the client is answered.
func (s *stage) await(what string, want ...holders) error {
	var by holders
	err := s.until(what, func() bool {
		var answered bool
		by, answered = s.witness.now()
		if _, ok := s.witness.answers(s.from); by != lb01 && !ok {
			return false // the client does not know yet that LB-02 has it
		}
		return slices.Contains(want, by) && answered
	})
	if err != nil {
		return fmt.Errorf("%w: %v", err, by)
	}
	return nil
}

func (s *stage) until(what string, cond func() bool) error {
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		select {
		case <-s.witness.done:
			return s.witness.err
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within 30 s", what)
		}
	}
	return nil
}

// due is when the timers want LB-02 to have the address: what it waits for
// after the last that it has heard of LB-01.
func (s *stage) due() time.Time {
	var at time.Time
	for _, a := range s.witness.heard(s.from.Add(-4 * s.trial.interval)) {
		if a.side != 0 {
			continue
		}
		if a.priority == 0 {
			return a.at.Add(s.trial.skew())
		}
		at = a.at.Add(s.trial.down())
	}
	return at
}

// outputs is what the programs have written.
func (s *stage) outputs() string {
	var out string
	for _, n := range s.nodes {
		if n != nil && n.cmd != nil {
			out += fmt.Sprintf("\noutput of %v:\n%s", n.cmd, n.cmd.Output())
		}
	}
	return out
}

func (s *stage) close() error {
	var errs []error
	if s.witness != nil {
		errs = append(errs, s.witness.close())
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	if s.ns.IsOpen() {
		errs = append(errs, s.ns.Close())
	}
	for _, f := range s.cleanup {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
