package vrrp

import (
	"net/netip"
	"time"
)

// Machine is the state machine of one virtual router (RFC 9568 §6.4, RFC 3768
// §6.4) as a value: it reads no clock, opens no socket and starts no
// goroutine. Each method that is told the time returns the actions that the
// caller must carry out, in order; they are valid until the next call.
//
// Only differences of the times matter, so they should carry a monotonic clock
// reading; one that goes backwards counts as standing still. A Machine is not
// safe for concurrent use.
//
// Where the RFCs are silent, or do not agree:
//
//   - An address owner (priority 255) discards the advertisements of others by
//     RFC 3768 §7.1 and RFC 5798 §7.1. By RFC 9568 §7.1 with erratum 8298 it
//     receives them as any router does, so that of two owners the one with the
//     lesser address steps down. Here an Active owner never steps down in version
//     2. In version 3 it steps down when it has heard an owner with the greater
//     address in each of three intervals in a row: one forged packet is not
//     enough. In both versions it announces the addresses again after a rival, to
//     correct the neighbours' caches.
//   - An owner that is Backup, after [Machine.Resign] or because it was not run
//     for too long, listens like any other router.
//   - A machine that was not run for more than the Active Down interval past
//     its deadline, because its process was stopped or its host overloaded,
//     must assume that another router has taken over, and that its own
//     addresses and the neighbours' caches are out of date. Whatever method is
//     called next, it releases the addresses and listens for a whole Active
//     Down interval. This holds for the address owner, too: the router that
//     took over serves meanwhile, and a host that stalls once often stalls again.
//   - The last advertisement of an Active router may be so old that a Backup may
//     have taken over. When it then hears another router, it does not answer, but
//     releases the addresses and listens. When it hears none it goes on, unless
//     its Handler has lost the addresses: see Lessee.
//   - A planned hand-over, by Resign or Shutdown, has two steps. The machine sends priority
//     0 and stays Active, but advertises no more. It releases the addresses when it hears
//     any other router, which has them by then, or when the longest skew time of a Backup,
//     one interval or in version 2 one second, and 200 ms are over. So the addresses have a
//     holder all the time, and two for as long as an advertisement travels. A fault ends the
//     first step at once. There is no such step if the machine is not Entitled to the
//     addresses or hears another Active router, with Config.NoOverlap, or where that is
//     implied.
//   - Two Active routers meet when a split of the link heals. The loser advertises
//     once more before it steps down, so that the winner knows, however the packets
//     cross. The neighbours' caches may point to the loser: the winner asks for a
//     new Announce at once, every five seconds while it hears the loser, and when
//     it has heard no other Active router for one to two intervals. But it waits
//     for a second after it has become Active, or last asked: until then it may
//     hear its predecessor, and the first Announce is under way.
type Machine struct {
	cfg      Config
	source   netip.Addr // for the tie-break
	now      time.Time  // of the current step
	state    State
	priority uint8

	started bool
	reasons []string // this router's own, not to take part
	faults  string   // the same, comma-separated
	// groupFault is the reason that another member of the group has.
	groupFault      string
	kind, groupKind faultKind // of these reasons
	waited          bool      // the machine has had only awaited ones since its start

	leaving handOver // the planned hand-over that is under way

	// timer is Active_Down_Timer in Backup and Adver_Timer in Active; zero: not set.
	// cause is the Cause of the change when the timer of a Backup expires.
	timer time.Time
	cause Cause
	// interval is Active_Adver_Interval (RFC 9568 §6.1).
	interval time.Duration
	// lengthens is how many more advertisements go out at this interval before the
	// configured longer one replaces it.
	lengthens int
	// notBefore is when StartDelay ends; until then an expired timer waits.
	notBefore time.Time
	// preemptAt is when a live Active router with a lower priority will be preempted;
	// zero: none was heard.
	preemptAt time.Time
	// peer is the router that a Backup heard last since the last change of the state:
	// it may be the reason of the next change. Priority 0: there is none, or it left.
	peer Peer
	// resigned keeps a router that handed over from preempting its successor,
	// until it is Active again.
	resigned bool

	sent   time.Time   // the last advertisement
	lapsed func() bool // see Lessee; nil: never
	// rival is how many advertisements must go out without an answer before another
	// Active router counts as gone; 0: there is none. split: the rival is no
	// predecessor that is about to step down. rivalAddr and rivalPriority are those of
	// the rival that was heard last.
	rival         int
	split         bool
	rivalAddr     netip.Addr
	rivalPriority uint8

	became    time.Time // Active
	announced time.Time
	// challenged: an owner has heard another owner with the better claim since the
	// last advertisement. challenges counts such intervals in a row before.
	challenged bool
	challenges uint8
	// doubt is how many advertisements an Active router must send after a late one
	// before no other router can be Active unheard. See Entitled.
	doubt uint8

	// A member of a group does not become Active by itself. It makes a claim, with a
	// Cause, and the group decides.
	grouped bool
	claimed Cause

	// The actions of the step. Two of the longest sequences fit: a stalled machine
	// steps down, and the group lets it take over.
	actions [8]Action
	n       int
}

// Announce actions because of a rival are at least quietAnnounce apart, and
// splitAnnounce while the rival is still heard.
const (
	quietAnnounce = time.Second
	splitAnnounce = 5 * time.Second
)

// NewMachine returns a machine in Initialize. cfg is validated and its
// defaults are filled in; Source is the address for the tie-break until
// SetSource is called. cfg's Group does nothing here, it is for a [Router].
func NewMachine(cfg Config) (*Machine, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return newMachine(cfg), nil
}

// newMachine is NewMachine for a complete Config.
func newMachine(cfg Config) *Machine {
	return &Machine{
		cfg:      cfg,
		source:   cfg.Source,
		priority: cfg.Priority,
		interval: cfg.Interval,
	}
}

// Start begins taking part in the election (RFC 9568 §6.4.1): the owner of the
// addresses becomes Active, others listen first. With a fault the machine
// stays in Initialize, and returns a transition from Initialize to
// Initialize.
func (m *Machine) Start(now time.Time) []Action {
	m.beginStep(now)
	if m.started {
		return m.endStep()
	}
	m.started, m.resigned = true, false
	m.notBefore = m.now.Add(m.cfg.StartDelay)
	if m.waited = m.onlyAwaits(); m.fault() != "" {
		m.changeState(Initialize, CauseFault)
	} else {
		m.enterElection(CauseStart)
	}
	return m.endStep()
}

// Shutdown ends taking part, from any state. An Active machine sends priority 0 (RFC
// 9568 §6.4.3) and hands over, see Machine: then the end is the change to Initialize, in a
// later call of Receive or Tick. After that the machine may be started again.
func (m *Machine) Shutdown(now time.Time) []Action {
	return m.shutdown(now, CauseShutdown, "", false)
}

// shutdown is Shutdown for another cause, with a reason or none. atOnce: no successor could
// be heard, and the machine ends now.
func (m *Machine) shutdown(now time.Time, cause Cause, reason string, atOnce bool) []Action {
	m.beginStep(now)
	switch l := &m.leaving; {
	case !m.started:
		return m.endStep()
	case m.HandingOver():
		if l.to == Backup || l.cause == CauseFault {
			l.to, l.cause, l.reason = Initialize, cause, reason
		}
		if atOnce || l.unclaimed {
			m.endHandOver(Peer{})
		}
	case atOnce:
		m.leaveElection(Initialize, cause)
		m.explainChange(reason)
	default:
		m.beginHandOver(Initialize, cause, reason)
	}
	m.started = m.HandingOver()
	return m.endStep()
}

// SetPriority changes the priority in force. It is 1 to 254; 0 counts as 1, and 255 as
// 254. The priority of the address owner does not change. The next advertisement carries
// the new priority, and a Backup follows the rules of the new one at once.
func (m *Machine) SetPriority(now time.Time, priority uint8) []Action {
	m.beginStep(now)
	priority = min(max(priority, 1), 254)
	if m.owner() || priority == m.priority {
		return m.endStep()
	}
	wait := m.downWait()
	m.priority = priority
	if m.state == Backup {
		m.adjustTimer(wait)
		m.reconsiderActive(false)
	}
	return m.endStep()
}

// SetSource sets the address that advertisements are sent from. It decides between
// routers of equal priority, and advertisements that come from it are ignored.
func (m *Machine) SetSource(addr netip.Addr) {
	m.source = addr.WithZone("")
}

// Resign hands the addresses over, see Machine: an Active machine sends priority 0, and
// becomes Backup when it hears a successor. It does not preempt that router, whatever the
// priorities, and becomes Active again only when that router fails or leaves, also after a
// fault of its own meanwhile. If nobody takes over, it sends priority 0 once more, and then
// goes on: the change is from Active to Active, with CauseUnclaimed. A machine that must
// release the addresses at once takes them back after the Active Down interval and one
// interval more. In other states, and while a hand-over is under way, Resign does nothing.
func (m *Machine) Resign(now time.Time) []Action {
	m.beginStep(now)
	if m.state == Active && !m.HandingOver() {
		m.beginHandOver(Backup, CauseResign, "")
	}
	return m.endStep()
}

// Deadline returns when Tick must be called, and false if it need not be.
// Every other call may move it.
func (m *Machine) Deadline() (time.Time, bool) {
	if m.timer.IsZero() {
		return time.Time{}, false
	}
	return latest(m.timer, m.notBefore), true
}

// Entitled reports whether the addresses are this router's now, beyond doubt. It is
// Active, and each of its advertisements, the last one included, is less than
// DownMultiplier intervals old when the next one goes out, so that no Backup that heard
// them can have taken over. A late advertisement raises doubt until two more went out
// in time: a router that took over meanwhile is heard by then.
//
// A Handler that keeps addresses asks before it renews or adds them, and when it was not
// run for a while. A router that hands over is entitled until its wait for a successor ends.
func (m *Machine) Entitled(now time.Time) bool {
	if m.HandingOver() {
		return m.leaving.unclaimed || !latest(m.now, now).After(m.timer)
	}
	return m.state == Active && m.doubt == 0 && !m.isLate(latest(m.now, now))
}

// isLate reports whether the next advertisement of an Active router is so late that a
// Backup may have stopped waiting for it.
func (m *Machine) isLate(now time.Time) bool {
	return now.Sub(m.sent) > time.Duration(m.cfg.DownMultiplier)*m.interval
}

// Split reports whether this router is Active and hears another Active router that should
// not be, and returns the address and the priority of the last advertisement from it. A
// predecessor that has just been preempted does not count.
func (m *Machine) Split() (rival netip.Addr, priority uint8, split bool) {
	return m.rivalAddr, m.rivalPriority, m.split
}

// State returns the state.
func (m *Machine) State() State { return m.state }

// Priority returns the priority in force.
func (m *Machine) Priority() uint8 { return m.priority }

// Interval returns the advertisement interval of the Active router: the
// configured one while Active, the learned one otherwise. In version 2 they are
// the same.
func (m *Machine) Interval() time.Duration { return m.interval }

// owner reports whether the router owns the addresses (RFC 9568 §6.1).
func (m *Machine) owner() bool { return m.cfg.owner() }

// skewTime is Skew_Time: in parts of a second in version 2 (RFC 3768 §6.1), of the
// Active router's interval in version 3 (RFC 9568 §6.1).
func (m *Machine) skewTime() time.Duration {
	unit := m.interval
	if m.cfg.Version == 2 {
		unit = time.Second
	}
	return time.Duration(256-int(m.priority)) * unit / 256
}

// downInterval is Active_Down_Interval (RFC 9568 §6.1).
func (m *Machine) downInterval() time.Duration {
	return time.Duration(m.cfg.DownMultiplier)*m.interval + m.skewTime()
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
