package lb

import "log/slog"

// poolLog is what the log was last told of a pool as a whole.
type poolLog struct {
	lost   bool // no backend works,
	quorum bool // those that do are enough,
	panic  bool // and they are too few for health to be believed
}

// report logs what is new about the pool as a whole: the loss of the last backend, and
// the return of the first, once each.
func (l *poolLog) report(log *slog.Logger, s *snapshot) {
	up, down, ejected, draining := s.census()
	log = log.With("pool", s.cfg.Name)
	log.Debug("pool changes", "up", up, "down", down, "ejected", ejected, "draining", draining)
	lost := up == 0 && len(s.all) > 0
	switch {
	case lost && !l.lost:
		log.Error("pool has no working backends", "down", down, "ejected", ejected, "draining", draining)
	case !lost && l.lost && up > 0:
		log.Info("pool has working backends again", "up", up)
	}
	l.lost = lost
	if up == 0 {
		return // that says it all
	}
	if s.quorum != l.quorum {
		if l.quorum = s.quorum; s.quorum {
			log.Info("pool has its quorum again", "up", up)
		} else {
			log.Warn("pool is below its quorum", "up", up, "down", down, "backups", len(s.tiers[0].live) > 0 && s.tiers[0].live[0].Backup)
		}
	}
	if s.panic != l.panic {
		if l.panic = s.panic; s.panic {
			log.Warn("too few backends are up: all are used, whatever their health", "up", up, "down", down)
		} else {
			log.Info("enough backends are up: the health of each counts again", "up", up)
		}
	}
}
