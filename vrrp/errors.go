package vrrp

import "errors"

// Errors that this package wraps, to be found with [errors.Is].
var (
	// ErrClosed: the [Conn] was closed, or the [Router] has ended.
	ErrClosed = errors.New("closed")
	// ErrNotActive: only a router in the state [Active] can do that.
	ErrNotActive = errors.New("not Active")
	// ErrVRIDInUse: another router has the VRID on this interface, in this process
	// or in another one of this host.
	ErrVRIDInUse = errors.New("VRID in use")
	// ErrRunTwice: a [Router] runs only once.
	ErrRunTwice = errors.New("a Router runs only once")
	// ErrReconfigured, as the cause that the context of [Router.Run] is cancelled
	// with or wrapped in that cause, says that another Router takes the place of this
	// one: the last transition has CauseReconfigured, and as its reason what follows
	// the colon in "reconfigured: vrid".
	ErrReconfigured = errors.New("reconfigured")
)
