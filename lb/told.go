package lb

// told is what the log was last told of a pool as a whole.
type told struct {
	lost   bool // No backend works,
	quorum bool // those that do are enough,
	panic  bool // and they are too few for health to be believed.
}

// tell logs what is new about the pool as a whole: the loss of the last backend, and
// the return of the first, once each. p.mu is held.
func (p *Pool) tell(s *snapshot) {
	up, down, ejected, draining := s.census()
	log := p.log.With("pool", s.cfg.Name)
	log.Debug("pool changes", "up", up, "down", down, "ejected", ejected, "draining", draining)
	lost := up == 0 && len(s.all) > 0
	switch {
	case lost && !p.told.lost:
		log.Error("pool has no working backends", "down", down, "ejected", ejected, "draining", draining)
	case !lost && p.told.lost && up > 0:
		log.Info("pool has working backends again", "up", up)
	}
	p.told.lost = lost
	if up == 0 {
		return // that says it all
	}
	if s.quorum != p.told.quorum {
		if p.told.quorum = s.quorum; s.quorum {
			log.Info("pool has its quorum again", "up", up)
		} else {
			log.Warn("pool is below its quorum", "up", up, "down", down, "backups", len(s.tiers[0].live) > 0 && s.tiers[0].live[0].Backup)
		}
	}
	if s.panic != p.told.panic {
		if p.told.panic = s.panic; s.panic {
			log.Warn("too few backends are up: all are used, whatever their health", "up", up, "down", down)
		} else {
			log.Info("enough backends are up: the health of each counts again", "up", up)
		}
	}
}

// census counts the backends of a pool by what keeps them from working.
func (s *snapshot) census() (up, down, ejected, draining int) {
	for _, m := range s.all {
		switch {
		case m.Drain || m.draining.Load():
			draining++
		case m.down.Load():
			down++
		case m.ejected.Load() != 0:
			ejected++
		default:
			up++
		}
	}
	return up, down, ejected, draining
}

// review tells what an ejection, or its end, has made of the pool.
func (p *Pool) review() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(p.snap.Load())
}
