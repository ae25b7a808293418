package lb

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// A connection for which there is no descriptor does not wait for ever: it moves nothing,
// so its idle timeout ends it, that of the configuration which it was accepted with.
func TestStarvedConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{conns: make(chan net.Conn, 1)}
		records := make(chan Record, 1)
		cfg := TCPConfig{Pool: newPool(t, PoolConfig{Backends: backends(1)}), IdleTimeout: time.Minute, Record: func(r Record) { records <- r }}
		tc, err := NewTCP(cfg)
		if err != nil {
			t.Fatal(err)
		}
		tc.settings.Load().dialer.dial = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.EMFILE }
		stop := labtest.Run(t, func(ctx context.Context) error { return tc.Serve(ctx, ln) })
		client, server := net.Pipe()
		start := time.Now()
		ln.conns <- server
		synctest.Wait()
		cfg.IdleTimeout = time.Hour
		if err := tc.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		io.ReadAll(client)
		if took := time.Since(start); took < time.Minute || took > time.Minute+2*starvedFor {
			t.Errorf("it ended after %v, want a minute", took)
		}
		if r := <-records; r.Reason != "idle" || r.Backend != "" || r.Retries != 0 {
			t.Errorf("record %+v", r)
		}
		if b := tc.settings.Load().Pool.Status().Backends[0]; b.Failures != 0 || b.Active != 0 {
			t.Errorf("%+v", b)
		}
		if n := tc.counters.starved.Load(); n != 0 {
			t.Errorf("%d connections still wait", n)
		}
		stop()
	})
}
