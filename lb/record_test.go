package lb

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What counts as a retry does not depend on the outcome, nor do the client's bytes on
// when they came.
func TestRecordsAreAlike(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		records := make(chan Record, 1)
		tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
		dial, _ := open(tc, closedBackend(t), closedBackend(t))
		ends(t, dial())
		if r := <-records; r.Retries != 2 || r.Backend != "" || r.Reason == "" {
			t.Errorf("no backend was reached: %+v", r)
		}
		if st := tc.Stats(); st.Retries != 2 || st.Failed != 1 {
			t.Errorf("no backend was reached: %+v", st)
		}

		records = make(chan Record, 1)
		dial, _ = open(tcpWith(TCPConfig{AcceptProxy: loopback, SendProxy: 1, Record: func(r Record) { records <- r }}), proxyReader(t))
		c := dial()
		raw := innermost(c).(net.Conn)
		if raw == net.Conn(c) {
			io.WriteString(raw, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nhello")
		} else {
			io.WriteString(raw, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")
			io.WriteString(c, "hello")
		}
		c.CloseWrite()
		got, _ := ends(t, c)
		if r := <-records; r.Received != 5 || r.Sent != int64(len(got)) || r.Reason != "" || r.Client.String() != "192.0.2.1:1000" {
			t.Errorf("%+v, for %q", r, got)
		}
	})
}

func TestBlame(t *testing.T) {
	for err, want := range map[error]Result{
		syscall.EMFILE: Neutral, syscall.ENOBUFS: Neutral, syscall.EADDRNOTAVAIL: Neutral, errDown: Neutral,
		syscall.ECONNREFUSED: Failure, os.ErrDeadlineExceeded: Failure,
	} {
		if got := blame(&net.OpError{Op: "dial", Err: err}); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

// What was read and what could be written are not the same when one end does not
// take it: a record tells of the client's end, and the backend's counters of its own.
func TestBytesAreCountedWhereTheyPass(t *testing.T) {
	for _, floods := range []string{"backend", "client"} {
		everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
			var sent atomic.Int64
			flood := func(w io.Writer) {
				for b := make([]byte, 64<<10); ; {
					n, err := w.Write(b)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			}
			arrived, reset := make(chan struct{}), make(chan struct{})
			tc := tcpWith(TCPConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{rawBackend(t, func(c net.Conn, r *bufio.Reader) {
				if floods == "backend" {
					flood(c)
					return
				}
				_, _ = r.ReadByte()
				close(arrived)
				<-reset
				c.(*net.TCPConn).SetLinger(0)
			})}})})
			records := make(chan Record, 1)
			tc.Record = func(r Record) { records <- r }
			dial, _ := open(tc)
			c := dial()
			if floods == "client" {
				go flood(c)
				<-arrived
			} else if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			before, still := int64(-1), 0
			waitFor(t, "everything to be full", func() bool {
				time.Sleep(50 * time.Millisecond)
				now := sent.Load()
				if still++; now != before {
					before, still = now, 0
				}
				return now > 0 && still == 6
			})
			if floods == "client" {
				close(reset)
			} else {
				innermost(c).(*net.TCPConn).SetLinger(0)
				innermost(c).(*net.TCPConn).Close()
			}
			r, b := nextRecord(t, records), tc.Pool.Status().Backends[0]
			if from, to := max(r.Received, int64(b.Received)), max(r.Sent, int64(b.Sent)); from <= to || to == 0 {
				t.Errorf("the %s floods: %d bytes read, %d written to who did not take them", floods, from, to)
			}
		})
	}
}

func nextRecord(t testing.TB, records <-chan Record) (r Record) {
	t.Helper()
	select {
	case r = <-records:
	case <-time.After(bound):
		t.Error("no record")
	}
	return r
}

// Stats never count a connection that there is not, not even for a moment.
func TestActiveCountsConnectionsOnly(t *testing.T) {
	everyWay(t, func(t *testing.T, open func(*testTCP, ...Backend) (func() stream, func())) {
		for _, limit := range []int{0, 1000} {
			tc := tcpWith(TCPConfig{Limits: Limits{Connections: limit}, ShutdownTimeout: -1})
			dial, stop := open(tc, talker(t, "a"))
			var dialled, most atomic.Int64
			done := make(chan struct{})
			var sampler sync.WaitGroup
			sampler.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					active := tc.Stats().Active
					most.Store(max(most.Load(), active-dialled.Load()))
				}
			})
			for range 50 {
				dialled.Add(1)
				if _, err := io.ReadFull(dial(), make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			close(done)
			sampler.Wait()
			if n := most.Load(); n > 0 {
				t.Errorf("limit %d: %d connections more than there were", limit, n)
			}
			stop()
		}
	})
}

// logFunc is a handler of a log that calls a function for each line.
type logFunc func(slog.Record)

func (logFunc) Enabled(context.Context, slog.Level) bool        { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f logFunc) WithGroup(string) slog.Handler                 { return f }
func (f logFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }

// TestLogRecordsLosesNoBurst: thousands of connections may end at once. All of them have
// their lines, and nobody waited for the log, when flush returns.
func TestLogRecordsLosesNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8000
		var lines atomic.Int64
		record, flush := LogRecords(slog.New(logFunc(func(r slog.Record) {
			if lines.Load() == 0 {
				time.Sleep(50 * time.Millisecond)
			}
			if r.Message == "connection" {
				lines.Add(1)
			}
		})))
		began := time.Now()
		for range n {
			record(Record{Service: "web"})
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it waited for %v", d)
		}
		if flush(); lines.Load() != n {
			t.Errorf("%d lines, want %d", lines.Load(), n)
		}
	})
}

// Whoever sees that connections were accepted and that fewer are active knows that some are
// over.
func TestAcceptedAreActiveUntilTheyEnd(t *testing.T) {
	var c counters
	var enough atomic.Bool
	var others sync.WaitGroup
	defer others.Wait()
	defer enough.Store(true)
	for range 2 {
		others.Go(func() {
			for !enough.Load() {
				c.begin()
			}
		})
	}
	for range 300_000 {
		if st := c.stats(); int64(st.Accepted) > st.Active {
			t.Fatalf("%+v before any has ended", st)
		}
	}
}
