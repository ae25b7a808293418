package lb

// failed counts a failure and ejects the server when they are too many.
func (p *Pool) failed(m *member) {
	m.failures.Add(1)
	if p.eject(m) {
		p.review()
	}
}

// eject reports whether the server is ejected from now on.
func (p *Pool) eject(m *member) bool {
	now, cfg := p.now(), p.config()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed || cfg.MaxFails < 0 {
		return false
	}
	if now-m.lastFail > int64(cfg.FailTimeout) {
		m.fails.Store(0)
	}
	m.lastFail = now
	// A failure on probation renews the ejection at once.
	if m.fails.Add(1) < int64(cfg.MaxFails) && m.ejected.Load() == 0 {
		return false
	}
	if m.ejected.Swap(now+int64(cfg.FailTimeout)) != 0 {
		return false
	}
	p.restless.Add(1)
	m.ejects.Add(1)
	snap := p.snap.Load()
	up, _, _, _ := snap.census()
	p.log.Warn("backend ejected", "pool", cfg.Name, "backend", m.Name, "up", up, "backends", len(snap.all),
		"failures", m.fails.Load(), "for", cfg.FailTimeout)
	return true
}

// succeeded ends an ejection whose probation went well. As in nginx a success
// within FailTimeout of a failure proves nothing: it may belong to a connection
// made before.
func (p *Pool) succeeded(m *member) {
	if p.readmit(m) {
		p.review()
	}
}

// readmit reports whether an ejection has ended.
func (p *Pool) readmit(m *member) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.now()-m.lastFail <= int64(p.config().FailTimeout) {
		return false
	}
	m.fails.Store(0)
	if !p.settle(&m.ejected) {
		return false
	}
	p.log.Info("backend readmitted", "pool", p.config().Name, "backend", m.Name)
	return true
}

// review logs what an ejection, or its end, has made of the pool.
func (p *Pool) review() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logged.report(p.log, p.snap.Load())
}
