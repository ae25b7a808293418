package vrrp

import "time"

// beginStep opens a step of the machine. A timer that is overdue by more than the
// Active Down interval means that the machine was not run, see Machine.
func (m *Machine) beginStep(now time.Time) {
	m.n = 0
	m.now = latest(m.now, now)
	if m.unsure() {
		m.doubt = 3 // the one that is due, and two more
		if m.lapsed != nil && m.lapsed() {
			m.stepDownStalled()
			return
		}
	}
	if deadline, ok := m.Deadline(); !ok || m.now.Sub(deadline) <= m.downInterval() {
		return
	}
	switch {
	case m.HandingOver(): // the end of its wait takes that into account
	case m.state == Active:
		m.stepDownStalled()
	case m.state == Backup:
		// The Active router's advertisements may be waiting to be received.
		m.armDownTimer()
	}
}

// unsure reports whether a Backup may have taken over from this Active router, whose next
// advertisement is late.
func (m *Machine) unsure() bool {
	return m.state == Active && !m.HandingOver() && m.isLate(m.now)
}

// stepDownStalled makes an Active router Backup because another router may have taken over.
// It sends no priority 0: a Backup that still waits for this router waits for less than its
// skew time.
func (m *Machine) stepDownStalled() {
	m.emit(Release)
	m.changeState(Backup, CauseStalled)
	m.armDownTimer()
}

// endStep closes a step.
func (m *Machine) endStep() []Action { return m.actions[:m.n] }

func (m *Machine) addAction(a Action) {
	m.actions[m.n] = a
	m.n++
}

func (m *Machine) emit(kind ActionKind) { m.addAction(Action{Kind: kind}) }

func (m *Machine) sendAdvertisement(priority uint8) {
	m.addAction(Action{Kind: Send, Priority: priority})
	m.sent = m.now
}

// changeState enters a state, and resets what belongs to the last state.
func (m *Machine) changeState(to State, cause Cause) {
	t := Transition{From: m.state, To: to, Cause: cause, Priority: m.priority, Time: m.now}
	if cause == CauseFault {
		t.Reason, t.Waiting = m.fault(), m.onlyAwaits()
	}
	if cause.aboutPeer() || m.HandingOver() {
		t.Peer = m.peer
	}
	m.state, m.peer = to, Peer{}
	m.timer, m.preemptAt = time.Time{}, time.Time{}
	m.rival, m.split, m.claimed = 0, false, 0
	m.challenged, m.challenges, m.doubt = false, 0, 0
	m.leaving = handOver{}
	m.resigned = m.resigned && to != Active
	m.addAction(Action{Kind: Changed, Transition: t})
}

// enterElection takes part in the election (RFC 9568 §6.4.1).
func (m *Machine) enterElection(cause Cause) {
	m.interval = m.cfg.Interval
	heard := m.peer
	switch {
	case !m.owner(), m.resigned:
		m.changeState(Backup, cause)
		if heard.Priority > 0 && m.now.Sub(heard.LastHeard) < m.downInterval() {
			m.peer = heard // if it is silent from now on, it is the one that was lost
		}
		m.armDownTimer()
	case m.grouped || m.now.Before(m.notBefore):
		m.changeState(Backup, cause)
		m.armTimer(0, CauseOwner)
	default:
		m.takeOver(CauseOwner)
	}
}

// leaveElection stops being Active or Backup. An Active router sends priority 0, unless
// its last advertisement is so old that its peers wait for less than their skew time, or it
// has done so before.
func (m *Machine) leaveElection(to State, cause Cause) {
	if m.state == Active {
		if !m.unsure() && !m.HandingOver() {
			m.sendAdvertisement(0)
		}
		m.emit(Release)
	}
	m.changeState(to, cause)
}

// armDownTimer sets a Backup's timer to the Active Down interval.
func (m *Machine) armDownTimer() { m.armTimer(m.downInterval(), CauseTimeout) }

// armTimer sets a Backup's timer.
func (m *Machine) armTimer(d time.Duration, cause Cause) {
	m.timer = m.now.Add(d)
	m.cause = cause
	m.claimed = 0
}

// downWait returns the length of a Backup's timer, by the reason why it was set.
func (m *Machine) downWait() time.Duration {
	if m.cause == CausePriorityZero {
		return m.skewTime()
	}
	return m.downInterval()
}

// adjustTimer moves a Backup's timer when downWait has changed.
func (m *Machine) adjustTimer(before time.Duration) {
	if !m.timer.IsZero() {
		m.timer = latest(m.timer.Add(m.downWait()-before), m.now)
	}
}

// reconsiderActive is called after a change of what decides whether a Backup preempts. If
// the Backup was about to preempt the Active router and now must not, or not yet, its timer
// runs from the last advertisement of that router after all.
func (m *Machine) reconsiderActive(notYet bool) {
	if m.peer.Priority == 0 || !notYet && !m.follows(m.peer.Priority) {
		return
	}
	m.preemptAt = time.Time{}
	m.learnInterval()
	if until := m.peer.LastHeard.Add(m.downInterval()); until.After(m.now) && until.After(m.timer) {
		m.timer, m.cause, m.claimed = until, CauseTimeout, 0
	}
}

// takeOver becomes Active. The advertisement comes first: other Backups stop waiting.
func (m *Machine) takeOver(cause Cause) {
	m.interval = m.cfg.Interval
	m.sendAdvertisement(m.priority)
	m.emit(Acquire)
	m.announce()
	m.became = m.now
	m.changeState(Active, cause)
	m.timer = m.now.Add(m.interval)
}

// Tick must be called when the Deadline has come; earlier it does nothing. Before that
// call, the caller passes advertisements that have arrived to Receive.
func (m *Machine) Tick(now time.Time) []Action {
	m.beginStep(now)
	if deadline, ok := m.Deadline(); !ok || m.now.Before(deadline) {
		return m.endStep()
	}
	switch m.state {
	case Backup:
		m.expireDownTimer()
	case Active:
		if m.HandingOver() {
			m.expireHandOver()
		} else {
			m.advertise()
		}
	}
	return m.endStep()
}

// expireDownTimer is the end of Active_Down_Timer (RFC 9568 §6.4.2).
func (m *Machine) expireDownTimer() {
	cause := m.cause
	if !m.preemptAt.IsZero() && !m.now.Before(m.preemptAt) {
		cause = CausePreempt
	}
	if m.grouped {
		m.timer = time.Time{}
		m.claimed = cause
		return
	}
	m.takeOver(cause)
}

// advertise is the end of Adver_Timer (RFC 9568 §6.4.3). A late call does not
// move the later advertisements.
func (m *Machine) advertise() {
	m.sendAdvertisement(m.priority)
	if m.lengthens--; m.lengthens <= 0 {
		m.lengthens, m.interval = 0, m.cfg.Interval
	}
	m.timer = m.timer.Add(m.interval)
	if !m.timer.After(m.now) {
		m.timer = m.now.Add(m.interval)
	}
	if m.challenges++; !m.challenged {
		m.challenges = 0
	}
	m.challenged = false
	m.doubt -= min(m.doubt, 1)
	if m.rival > 1 {
		m.rival--
	} else if m.rival == 1 && m.now.Sub(m.announced) >= quietAnnounce {
		m.rival, m.split = 0, false
		m.announce()
	}
}

func (m *Machine) announce() {
	m.emit(Announce)
	m.announced = m.now
}

// Receive takes in an advertisement that has passed all checks of a receiver. adv is not
// kept.
func (m *Machine) Receive(now time.Time, adv *Advertisement) []Action {
	m.beginStep(now)
	if adv.Source.WithZone("") == m.source {
		return m.endStep() // looped back
	}
	// The sender may have taken over. It must get no answer: a router that releases the
	// addresses for an answer must find that the answering router has them.
	if m.unsure() && adv.Priority > 0 {
		m.stepDownStalled()
	}
	switch m.state {
	case Backup:
		m.receiveBackup(adv)
	case Active:
		m.receiveActive(adv)
	case Initialize:
		m.peer = adv.peer(m.now) // see enterElection
	}
	return m.endStep()
}

// receiveBackup is the reception of RFC 9568 §6.4.2.
func (m *Machine) receiveBackup(adv *Advertisement) {
	m.peer = adv.peer(m.now)
	switch {
	case adv.Priority == 0:
		m.preemptAt = time.Time{}
		m.armTimer(m.skewTime(), CausePriorityZero)
	case m.follows(adv.Priority):
		m.preemptAt = time.Time{}
		m.learnInterval()
		m.armDownTimer()
	default:
		m.receiveLower()
	}
}

// receiveLower hears an Active router that will be preempted. The advertisement is
// discarded and does not touch the timer (RFC 9568 §6.4.2). But while PreemptDelay
// outlasts the timer, the router is followed.
func (m *Machine) receiveLower() {
	if m.claimed != 0 {
		return // ready to preempt, waiting for the group
	}
	if m.preemptAt.IsZero() {
		m.preemptAt = m.timer
		if m.cfg.PreemptDelay > 0 {
			m.preemptAt = latest(m.timer, m.now.Add(m.cfg.PreemptDelay))
		}
	}
	if !m.timer.Before(m.preemptAt) || !m.now.Before(m.preemptAt) {
		return
	}
	m.learnInterval()
	m.armDownTimer()
	if m.preemptAt.Before(m.timer) {
		m.timer = m.preemptAt
	}
}

// follows reports whether an Active router with this priority is left alone
// (RFC 9568 §6.4.2: Preempt_Mode False, or the priority at least the own).
func (m *Machine) follows(priority uint8) bool {
	return priority >= m.priority || m.resigned || m.cfg.NoPreempt && !m.owner()
}

// learnInterval adopts the Active router's interval (RFC 9568 §6.4.2). In version 2 that
// is the configured one, or the former one of a router that is not changed yet:
// advertisements with any other are discarded (RFC 3768 §7.1).
func (m *Machine) learnInterval() { m.interval = m.peer.Interval }

// receiveActive is the reception of RFC 9568 §6.4.3.
func (m *Machine) receiveActive(adv *Advertisement) {
	switch {
	case m.HandingOver():
		m.receiveSuccessor(adv)
	case m.owner() && m.cfg.Version == 2:
		m.noteRival(adv) // and no more: see Machine
	case m.owner() && m.loses(adv) && m.challenges < maxChallenges-1:
		// no answer: the other owner would answer the answer
		m.challenged = true
		m.noteRival(adv)
	case adv.Priority == 0:
		m.sendAdvertisement(m.priority)
		m.timer = m.now.Add(m.interval)
		m.noteRival(adv)
	case m.loses(adv):
		m.sendAdvertisement(m.priority) // the winner learns of this router: see Machine
		m.emit(Release)
		m.peer = adv.peer(m.now)
		m.changeState(Backup, CauseHigherPriority)
		m.peer = adv.peer(m.now)
		m.learnInterval()
		m.armDownTimer()
	default:
		// version 2 waits for the next regular advertisement (RFC 3768 §6.4.3)
		if m.cfg.Version != 2 {
			m.sendAdvertisement(m.priority)
		}
		m.noteRival(adv)
	}
}

// noteRival takes note of a rival that must step down, and announces the addresses: the
// neighbours may have believed the rival.
func (m *Machine) noteRival(adv *Advertisement) {
	m.rival, m.rivalAddr, m.rivalPriority = 2, adv.Source, adv.Priority
	if adv.Interval > m.interval { // its next advertisement must not come as a surprise
		m.rival = 1 + int((adv.Interval+m.interval-1)/m.interval)
	}
	wait := quietAnnounce
	if m.split {
		wait = splitAnnounce
	}
	if m.now.Sub(m.announced) >= wait {
		m.announce()
	}
	m.split = m.split || adv.Priority > 0 && m.now.Sub(m.became) >= quietAnnounce
}

// maxChallenges is the number of intervals in a row in which an owner must hear another
// owner with the better claim before it steps down.
const maxChallenges = 3

// loses reports whether adv's sender has the better claim: the higher priority,
// or the same and the greater address, byte by byte.
func (m *Machine) loses(adv *Advertisement) bool {
	if adv.Priority != m.priority {
		return adv.Priority > m.priority
	}
	return adv.Source.WithZone("").Compare(m.source) > 0
}
