package lb

import (
	"net/http"
	"testing"

	"github.com/havip/havip/internal/quietlog/quietlogtest"
)

// TestBlockedLogger: planes and a pool whose logger does not return serve as any
// other: lines about one connection hold up neither that one nor the next.
func TestBlockedLogger(t *testing.T) {
	let := make(chan struct{})
	log := quietlogtest.Blocked(let)
	t.Cleanup(func() { close(let) })
	record, _ := LogRecords(log)
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		dial, _ := open(tcpWith(TCPConfig{Logger: log, Record: record}), closedBackend(t), talker(t, "a"))
		for range 6 {
			c := dial()
			c.Write([]byte("x"))
			c.CloseWrite()
			if got, _ := ends(t, c); got != "ax." {
				t.Errorf("%q", got)
			}
			c.Close()
		}
	})
	t.Run("HTTP", func(t *testing.T) {
		s, _ := front(t, HandlerConfig{Logger: log, Record: record}, closedBackend(t), webBackend(t, name("a")))
		for range 6 {
			res, err := http.Get(s.URL)
			if got := body(t, res, err); got != "a" {
				t.Errorf("%q", got)
			}
		}
	})
	t.Run("pool", func(t *testing.T) {
		p := newPool(t, PoolConfig{Logger: log, Backends: []Backend{{Address: "192.0.2.1:80"}, {Address: "192.0.2.2:80"}}})
		for _, up := range []bool{false, true} {
			p.SetHealth("192.0.2.1:80", health(up))
			if got := p.Status().Backends[0].Up; got != up {
				t.Errorf("up is %v, want %v", got, up)
			}
		}
	})
}
