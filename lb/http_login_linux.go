package lb

import "context"

// awaitLogin has a password verified, for which a loop has no time.
func (c *httpConn) awaitLogin() {
	t, l := c.t, c.l
	c.state = connLogin
	login := t.x.claim
	ctx, cancel := context.WithCancel(l.e.work)
	t.giveUp = cancel // dropBackend
	serial := c.newAttempt()
	go func() {
		defer cancel()
		err := logins.verify(ctx, login)
		l.Post(func() {
			switch {
			case c.attempts != serial || c.t == nil: // the client has left, or was cut
			case err != nil && err == ctx.Err():
				c.fail(errCut)
			default:
				c.t.giveUp = nil
				c.follow(c.t.x.decideLogin(err))
			}
		})
	}()
	c.lookAtClient() // the end may have come before
}
