package lb

import (
	"net"
	"testing"
	"time"
)

// idleUpstream is a connection to a destination, and the backend's end of it.
func idleUpstream(t *testing.T, to destination) (u *upstream, backend net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	_ = theirs.SetDeadline(time.Now().Add(bound))
	return newUpstream(ours, to), theirs
}

// expectEnd waits for the end of a connection.
func expectEnd(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("%s: %v, want the end", what, err)
	}
}

// TestLatestConnectionIsUsedFirst: so that a backend gets rid of connections that are too
// many. What is not kept any more takes no room.
func TestLatestConnectionIsUsedFirst(t *testing.T) {
	var i idleConns
	to := destination{address: "a"}
	first, _ := idleUpstream(t, to)
	second, _ := idleUpstream(t, to)
	i.keepConn(first)
	i.keepConn(second)
	for _, want := range []*upstream{second, first, nil} {
		if got := i.takeConn(to, time.Hour); got != want {
			t.Errorf("%p, want %p", got, want)
		}
	}
	if len(i.conns) != 0 {
		t.Errorf("%d destinations are left", len(i.conns))
	}
}

// TestIdleConnectionsAreBounded: one more is closed.
func TestIdleConnectionsAreBounded(t *testing.T) {
	to := destination{address: "a"}
	i := idleConns{conns: map[destination][]*upstream{to: make([]*upstream, maxIdle-1)}}
	last, _ := idleUpstream(t, to)
	i.keepConn(last)
	more, end := idleUpstream(t, to)
	i.keepConn(more)
	expectEnd(t, "too many", end)
	if n := len(i.conns[to]); n != maxIdle {
		t.Errorf("%d are kept, want %d", n, maxIdle)
	}
}

// TestNothingIsKeptAfterTheEnd: a request that was under way does not leave a connection
// behind, whatever servers go later. Before, only those to servers that go are closed.
func TestNothingIsKeptAfterTheEnd(t *testing.T) {
	var i idleConns
	gone, stays := new(server), new(server)
	cut, cutEnd := idleUpstream(t, destination{server: gone})
	i.keepConn(cut)
	spared, sparedEnd := idleUpstream(t, destination{server: stays})
	i.keepConn(spared)
	i.cut(servers{gone: {}})
	expectEnd(t, "of a server that is gone", cutEnd)
	if i.isClosed() || i.takeConn(spared.to, time.Hour) != spared {
		t.Error("a connection to another server is not kept")
	}
	i.keepConn(spared)
	i.cut(nil)
	expectEnd(t, "of all", sparedEnd)
	i.cut(servers{gone: {}})
	late, lateEnd := idleUpstream(t, destination{server: stays})
	i.keepConn(late)
	expectEnd(t, "late", lateEnd)
}

// TestIdleConnectionsGiveWay: but not one that a client has logged in on, which cannot be made
// anew.
func TestIdleConnectionsGiveWay(t *testing.T) {
	var i idleConns
	own, _ := idleUpstream(t, destination{owner: new(clientConn), login: true})
	i.keepConn(own)
	if i.giveWay() {
		t.Error("something gives way")
	}
	other, end := idleUpstream(t, destination{})
	i.keepConn(other)
	if !i.giveWay() {
		t.Error("nothing gives way")
	}
	expectEnd(t, "anybody's connection", end)
	if i.takeConn(own.to, time.Hour) != own {
		t.Error("the client has lost its connection")
	}
}
