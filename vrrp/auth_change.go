package vrrp

import "fmt"

// SetAuth changes how advertisements are authenticated, at run time and
// whatever the state: keys and passwords can be rotated without a hand-over.
//
// With AuthHMAC no advertisement is lost if each step is done on all routers
// before the next one: add the new key to Keys, make it the ActiveKey, take the
// old one out. HMACPermissive leads from no authentication to AuthHMAC and back
// in the same way. AuthPass and AuthAH have only one password at a time: all
// routers must change it before the Backups would take over.
//
// From AuthAH or to it there is no way but another Router, since it takes
// another socket. After an error nothing has changed.
func (r *Router) SetAuth(a Auth) error {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	cfg := r.cfg
	cfg.Auth = a
	if err := cfg.validate(); err != nil {
		return err
	}
	if (cfg.Auth.Type == AuthAH) != (r.cfg.Auth.Type == AuthAH) {
		return fmt.Errorf("vrrp: %s: auth: %v instead of %v: make another Router", cfg.Name, cfg.Auth.Type, r.cfg.Auth.Type)
	}
	r.cfg.Auth = cfg.Auth
	r.wire.setAuth()
	return nil
}
