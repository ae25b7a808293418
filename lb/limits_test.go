package lb

import (
	"io"
	"net/netip"
	"testing"
	"time"
)

// Limits that Replace turns on count from then on.
func TestLimiterRateTurnedOnLater(t *testing.T) {
	var r limiter
	a, now := netip.MustParseAddr("192.0.2.1"), time.Now()
	admitted := func(l Limits, n int) (admitted int) {
		t.Helper()
		if err := l.Validate(); err != nil {
			t.Fatal(err)
		}
		l = l.WithDefaults()
		for range n {
			if r.admit(&l, a, now) {
				admitted++
				r.release(&l, a)
			}
			now = now.Add(100 * time.Millisecond)
		}
		return admitted
	}
	if n := admitted(Limits{PerClient: 1}, 1000); n != 1000 {
		t.Errorf("without a rate %d of 1000 are admitted", n)
	}
	if n := admitted(Limits{PerClient: 1, Rate: 5, TotalRate: 50}, 100); n < 50 || n > 55 {
		t.Errorf("at 10 a second with a rate of 5, %d of 100 are admitted, want about 50", n)
	}
}

func TestLimiterTotalRate(t *testing.T) {
	l := Limits{PerClient: 2, Rate: 1, Burst: 2, TotalRate: 10, TotalBurst: 5}
	var r limiter
	now := time.Now()
	for _, step := range []struct {
		what string
		addr string
		at   time.Duration
		want int
	}{
		{"a client's own limit", "192.0.2.1", 0, 2},
		{"what that refused does not count", "192.0.2.2", 0, 2},
		{"the total", "192.0.2.3", 0, 1},
		{"nobody else", "192.0.2.4", 0, 0},
		{"refused, it has its own burst still", "192.0.2.4", 200 * time.Millisecond, 2},
	} {
		admitted := 0
		for range 10 {
			if r.admit(&l, netip.MustParseAddr(step.addr), now.Add(step.at)) {
				admitted++
			}
		}
		if admitted != step.want {
			t.Errorf("%s: %d admitted, want %d", step.what, admitted, step.want)
		}
	}
}

// Who counts as one client.
func TestLimiterClients(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::2:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%2", "fe80::1%2", true},
		{"fe80::1%2", "fe80::2%2", false},
		{"fe80::1%2", "fe80::1%3", false},
	} {
		var r limiter
		l := &Limits{PerClient: 1}
		r.admit(l, netip.MustParseAddr(tt.a), time.Now())
		if refused := !r.admit(l, netip.MustParseAddr(tt.b), time.Now()); refused != tt.same {
			t.Errorf("%s and %s count as one client: %v, want %v", tt.a, tt.b, refused, tt.same)
		}
		r.release(l, netip.MustParseAddr(tt.a))
		if !r.admit(l, netip.MustParseAddr(tt.a), time.Now()) {
			t.Errorf("%s has left and is still counted", tt.a)
		}
	}
}

// A client with connections is counted for as long as it has them, however old they are.
func TestLimiterForgetsNoClientWithConnections(t *testing.T) {
	for _, l := range []Limits{{PerClient: 2}, {PerClient: 2, Rate: 100, Burst: 100}} {
		var r limiter
		a, now := netip.MustParseAddr("192.0.2.1"), time.Now()
		for range l.PerClient {
			if !r.admit(&l, a, now) {
				t.Errorf("%+v: not admitted", l)
			}
		}
		for range 5 { // others come and go
			now = now.Add(time.Hour)
			if other := netip.MustParseAddr("192.0.2.2"); r.admit(&l, other, now) {
				r.release(&l, other)
			}
			if r.admit(&l, a, now) {
				t.Fatalf("%+v: a third connection is admitted, and %d are allowed", l, l.PerClient)
			}
		}
		r.release(&l, a)
		if !r.admit(&l, a, now) {
			t.Errorf("%+v: not admitted although one has ended", l)
		}
	}
}

func TestTCPTotalRate(t *testing.T) {
	tc := tcpWith(TCPConfig{Limits: Limits{TotalRate: 1e-6, TotalBurst: 2}})
	addr, _ := relay(t, tc, talker(t, "a"))
	one := make([]byte, 1)
	for i := range 3 {
		c := dialTest(t, addr)
		if _, err := io.ReadFull(c, one); (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i+1, err)
		}
		c.Close()
	}
	if st := tc.Stats(); st.Accepted != 3 || st.Refused != 1 {
		t.Errorf("stats %+v, want 3 accepted, 1 of them refused", st)
	}
}

func TestBadLimitsAreRefused(t *testing.T) {
	for _, l := range []Limits{{Connections: -1}, {PerClient: -1}, {Rate: -1}, {Burst: -1}, {TotalRate: -1}, {TotalBurst: -1}} {
		if err := l.Validate(); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

func testAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

// A flow that a change of the limits has uncounted takes nothing from those that are counted,
// and clients that have gone leave no memory behind.
func TestLimiterAfterChanges(t *testing.T) {
	var r limiter
	now, on, off := time.Now(), &Limits{PerClient: 1}, &Limits{}
	a := testAddr(1)
	r.admit(off, a, now)
	r.admit(on, a, now)
	r.release(on, a)
	r.release(on, a) // of the first
	if !r.admit(on, a, now) || r.admit(on, a, now) {
		t.Error("the client has not one connection")
	}
	for i := range 100 {
		r.admit(on, testAddr(i+2), now)
		r.release(on, testAddr(i+2))
	}
	now = now.Add(time.Minute)
	if r.admit(on, testAddr(200), now); len(r.clients) != 2 {
		t.Errorf("%d clients are known, want 2", len(r.clients))
	}
}
