package lb_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/lb"
)

// A Monitor for each backend tells the pool of its health. Until a Monitor has a
// result its backend counts as up. Where Address is a name, each of its addresses, which
// come and go, has a Monitor of its own.
func Example_healthcheck() {
	web := httptest.NewServer(nil)
	defer web.Close()
	backends := []lb.Backend{
		{Name: "app1", Address: web.Listener.Addr().String()},
		{Name: "app2", Address: closedPort()},
	}
	pool, err := lb.NewPool(lb.PoolConfig{Backends: backends})
	if err != nil {
		log.Fatal(err)
	}
	stop := pool.Follow(func(b lb.BackendSnapshot) (end func()) {
		monitor, err := healthcheck.NewMonitor(healthcheck.Config{
			Name:     b.Name,
			Checker:  healthcheck.At{Address: b.Resolved, Checker: healthcheck.TCP{Address: b.Authority}},
			Interval: 20 * time.Millisecond,
		})
		if err != nil {
			log.Fatal(err)
		}
		unsubscribe := monitor.Subscribe(func(s healthcheck.Status) { pool.SetHealth(b.Name, s.WhyDown()) })
		ctx, cancel := context.WithCancel(context.Background())
		go monitor.Run(ctx)
		return func() { unsubscribe(); cancel() }
	})
	defer stop()

	for countUp(pool) == 2 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		pick, err := pool.Pick(nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(pick.Backend())
		pick.Done(lb.Success)
	}
	// Output:
	// app1
	// app1
}

func countUp(pool *lb.Pool) (n int) {
	for _, b := range pool.Status().Backends {
		if b.Up {
			n++
		}
	}
	return n
}

// closedPort returns an address at which nobody listens.
func closedPort() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A pool does not hear of a Monitor that knows nothing yet, nor of a failure that
// does not count yet.
func TestHealthOfMonitors(t *testing.T) {
	pool, err := lb.NewPool(lb.PoolConfig{Backends: []lb.Backend{{Name: "app1", Address: "192.0.2.1:80"}}})
	if err != nil {
		t.Fatal(err)
	}
	result, told := make(chan error), make(chan error, 8)
	monitor, err := healthcheck.NewMonitor(healthcheck.Config{
		Checker:  healthcheck.CheckerFunc(func(context.Context) error { return <-result }),
		Interval: 10 * time.Millisecond, Timeout: time.Minute, LongTimeout: true, Rise: 1, Fall: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Subscribe(func(s healthcheck.Status) {
		pool.SetHealth("app1", s.WhyDown())
		told <- s.WhyDown()
	})()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- monitor.Run(ctx) }()
	first, second := errors.New("first failure"), errors.New("second failure")
	if countUp(pool) != 1 {
		t.Error("without a result the backend is down")
	}
	for _, r := range []error{nil, first, second, nil} {
		result <- r
	}
	for i, want := range []error{nil, second, nil} {
		if got := <-told; got != want {
			t.Errorf("change %d: the pool is told %v, want %v", i, got, want)
		}
	}
	if countUp(pool) != 1 {
		t.Error("the backend is down at the end")
	}
	stop()
	close(result)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
