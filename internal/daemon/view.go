package daemon

func (d *Daemon) serviceChanged(s *service) {}
