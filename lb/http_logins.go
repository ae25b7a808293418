package lb

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Why a login is not right, or not verified.
var (
	errWrongLogin   = errors.New("wrong user or password")
	errManyLogins   = errors.New("too many passwords to verify")
	errClientLogins = errors.New("too many passwords of this client to verify")
	errLateLogin    = errors.New("password not verified in time")
)

// How many logins may wait for their turn.
const (
	maxWaitingLogins = 512 // in this process,
	maxUsersLogins   = 256 // of the same users,
	maxClientLogins  = 32  // and of a client, as limits count clients
)

// loginGate bounds the passwords that are verified at the same time in this process, whose
// processors all services share. Clients take turns, whatever each of them has waiting: who
// sends many passwords holds up others by one. Requests with the same login wait for the same
// verification, and count once.
type loginGate struct {
	mu      sync.Mutex                 // guards all here, all that is pending, and Htpasswd.waiting
	free    int                        // how many more may be verified now
	waiting int                        // how many logins have had no turn
	pending map[loginKey]*pendingLogin // these, and those that are verified
	clients map[netip.Addr]*loginQueue
	turns   []*loginQueue // the values of clients, in the order of their turns
}

// pendingLogin is a login that is verified, or will be.
type pendingLogin struct {
	claim   claim
	key     loginKey
	queue   *loginQueue   // nil: it is verified
	waiters int           // requests
	done    chan struct{} // closed when right is known
	right   bool
}

// loginQueue is what waits of a client. It is not empty.
type loginQueue struct {
	client netip.Addr
	logins []*pendingLogin
}

// logins is half of the processors' time.
var logins = newLoginGate(max(1, runtime.GOMAXPROCS(0)/2))

// newLoginGate returns a gate for as many logins at a time.
func newLoginGate(free int) *loginGate {
	return &loginGate{free: free, pending: make(map[loginKey]*pendingLogin), clients: make(map[netip.Addr]*loginQueue)}
}

// verify returns nil if the login is right, one of the errors above, or that of ctx.
func (g *loginGate) verify(ctx context.Context, c claim) error {
	p, err := g.join(c)
	if err != nil {
		return err
	}
	late := time.NewTimer(c.patience)
	defer late.Stop()
	select {
	case <-p.done:
		if !p.right {
			return errWrongLogin
		}
		return nil
	case <-late.C:
		g.leave(p)
		return errLateLogin
	case <-ctx.Done():
		g.leave(p)
		return ctx.Err()
	}
}

// join returns what to wait for, which has one waiter more.
func (g *loginGate) join(c claim) (*pendingLogin, error) {
	key, client := c.users.loginKey(c.user, c.password), clientKey(c.client)
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.pending[key]; p != nil {
		p.waiters++
		return p, nil
	}
	q := g.clients[client]
	switch {
	case q != nil && len(q.logins) >= maxClientLogins && client.IsValid():
		return nil, errClientLogins
	case g.waiting >= maxWaitingLogins, c.users.waiting >= maxUsersLogins:
		return nil, errManyLogins
	case q == nil:
		q = &loginQueue{client: client}
		g.clients[client] = q
		g.turns = append(g.turns, q)
	}
	p := &pendingLogin{claim: c, key: key, queue: q, waiters: 1, done: make(chan struct{})}
	q.logins = append(q.logins, p)
	g.pending[key] = p
	g.waiting++
	c.users.waiting++
	g.start()
	return p, nil
}

// start gives turns to as many as may have one. mu is held.
func (g *loginGate) start() {
	for g.free > 0 && len(g.turns) > 0 {
		q := g.turns[0]
		p := q.logins[0]
		g.unqueue(p)
		if len(q.logins) > 0 { // behind the other clients
			g.turns = append(slices.Delete(g.turns, 0, 1), q)
		}
		g.free--
		go g.run(p)
	}
}

// unqueue takes p away from what waits. mu is held.
func (g *loginGate) unqueue(p *pendingLogin) {
	q := p.queue
	p.queue = nil
	g.waiting--
	p.claim.users.waiting--
	q.logins = slices.DeleteFunc(q.logins, func(other *pendingLogin) bool { return other == p })
	if len(q.logins) == 0 {
		delete(g.clients, q.client)
		g.turns = slices.DeleteFunc(g.turns, func(other *loginQueue) bool { return other == q })
	}
}

// run verifies a login whose turn it is.
func (g *loginGate) run(p *pendingLogin) {
	u, c := p.claim.users, &p.claim
	p.right = u.knows(c.user, c.password) || u.verify(c.user, c.password) // another request may have been first
	g.mu.Lock()
	delete(g.pending, p.key)
	g.free++
	g.start()
	g.mu.Unlock()
	close(p.done)
}

// leave is called by who does not wait for p any more. What nobody waits for is not verified,
// unless that has begun.
func (g *loginGate) leave(p *pendingLogin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.waiters--; p.waiters == 0 && p.queue != nil {
		g.unqueue(p)
		delete(g.pending, p.key)
	}
}
