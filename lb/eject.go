package lb

// failed counts a failure and ejects the server when they are too many.
func (p *Pool) failed(m *member) {
	m.failures.Add(1)
	cfg := p.config()
	if cfg.MaxFails < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.member == nil {
		return
	}
	now := p.now()
	if now-m.lastFail.Load() > int64(cfg.FailTimeout) {
		m.fails.Store(0)
	}
	m.lastFail.Store(now)
	// A failure on probation renews the ejection at once.
	if m.fails.Add(1) < int64(cfg.MaxFails) && m.ejected.Load() == 0 {
		return
	}
	already := false
	p.alter(m.server, func() { already = m.ejected.Swap(now+int64(cfg.FailTimeout)) != 0 })
	if already {
		return
	}
	p.restless.Add(1)
	m.ejects.Add(1)
	snap := p.snap.Load()
	p.log.Warn("backend ejected", "pool", cfg.Name, "backend", m.Name, "up", p.census[isUp], "backends", len(snap.all),
		"failures", m.fails.Load(), "for", cfg.FailTimeout)
	p.logged.report(p.log, snap, p.census)
}

// succeeded ends an ejection whose probation went well. As in nginx a success
// within FailTimeout of a failure proves nothing: it may belong to a connection
// made before.
func (p *Pool) succeeded(m *member) {
	// Most successes come too early: they do not wait for a change of the pool.
	if p.failedOfLate(m) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failedOfLate(m) {
		return
	}
	m.fails.Store(0)
	readmitted := false
	p.alter(m.server, func() { readmitted = p.settle(&m.ejected) })
	if readmitted {
		p.log.Info("backend readmitted", "pool", p.config().Name, "backend", m.Name)
		p.logged.report(p.log, p.snap.Load(), p.census)
	}
}

// failedOfLate reports whether a server has failed within FailTimeout.
func (p *Pool) failedOfLate(m *member) bool {
	return p.now()-m.lastFail.Load() <= int64(p.config().FailTimeout)
}
