package lb

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

// failingListener fails to accept with each error in turn, and then has connections.
type failingListener struct {
	net.Listener
	errs  []error
	conns chan net.Conn
	once  sync.Once
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *failingListener) Close() error   { l.once.Do(func() { close(l.conns) }); return nil }
func (l *failingListener) Addr() net.Addr { return new(net.TCPAddr) }

// passing are the errors of accept(2) that pass, as the net package wraps them.
func passing() (errs []error) {
	for _, errno := range []syscall.Errno{
		syscall.ENOMEM, syscall.ENOBUFS, syscall.EPERM, syscall.EPROTO, syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED,
		syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH,
	} {
		errs = append(errs, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)})
	}
	return errs
}

// An error of accepting that passes is waited for, by whoever serves a Listener: an
// http.Server would end with many of these errors.
func TestAcceptGoesOnAfterErrorsThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{errs: passing(), conns: make(chan net.Conn, 1)}
		l, err := NewListener(ln, ListenerConfig{Limits: Limits{Connections: 2}}) // no error takes a place
		if err != nil {
			t.Fatal(err)
		}
		n := uint64(len(ln.errs))
		client, server := net.Pipe()
		ln.conns <- server
		defer client.Close()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })}
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- srv.Serve(l) }()
		go io.WriteString(client, "GET / HTTP/1.0\r\n\r\n")
		if got, err := io.ReadAll(client); err != nil || len(got) == 0 {
			t.Errorf("answered with %q, %v", got, err)
		}
		if st := l.Stats(); st.Paused != n || st.Accepted != 1 {
			t.Errorf("%+v, want a pause for each of %d errors", st, n)
		}
		// 5, 10, 20 ms and so on, but no more than 200 ms each.
		if took := time.Since(began); took < 15*time.Millisecond || took > time.Duration(n)*200*time.Millisecond {
			t.Errorf("accepting paused for %v in all", took)
		}
		srv.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}

// A plane whose listener is not one of the event loops' does the same.
func TestTCPAcceptsAfterErrorsThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{errs: passing(), conns: make(chan net.Conn, 1)}
		tc, err := NewTCP(TCPConfig{Pool: newPool(t, PoolConfig{})})
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		ln.conns <- server
		stop := labtest.Run(t, func(ctx context.Context) error { return tc.Serve(ctx, ln) })
		io.ReadAll(client) // there is no backend
		if st := tc.Stats(); st.Accepted != 1 {
			t.Errorf("%+v, want the connection accepted", st)
		}
		stop()
	})
}

// An error of the listener itself does not pass.
func TestAcceptReturnsErrorsThatStay(t *testing.T) {
	for _, want := range []error{syscall.EBADF, syscall.EINVAL, errors.New("of an embedder's own listener")} {
		l, err := NewListener(&failingListener{errs: []error{want}}, ListenerConfig{Limits: Limits{Connections: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
}

// Limits hold for all listeners of a service together, and go on when settings change.
func TestListenersCountTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 8)
		first, err := NewListener(&failingListener{conns: conns}, ListenerConfig{Limits: Limits{TotalRate: 0.001, TotalBurst: 2}})
		if err != nil {
			t.Fatal(err)
		}
		second := first.With(&failingListener{conns: conns})
		arrive := func() (client net.Conn) {
			client, server := net.Pipe()
			conns <- server
			return client
		}
		arrive()
		if _, err := first.Accept(); err != nil {
			t.Fatal(err)
		}
		arrive()
		if _, err := second.Accept(); err != nil {
			t.Fatal(err)
		}
		refused := arrive()
		if err := first.Reconfigure(ListenerConfig{Limits: Limits{TotalRate: 0.001, TotalBurst: 2, Connections: 3}}); err != nil {
			t.Fatal(err)
		}
		accepted := make(chan net.Conn, 1)
		go func() {
			c, _ := second.Accept()
			accepted <- c
		}()
		if _, err := io.ReadAll(refused); err != nil {
			t.Error(err)
		}
		if st := first.Stats(); st.Accepted != 3 || st.Refused != 1 || st.Active != 2 || st != second.Stats() {
			t.Errorf("%+v, %+v, want one of three refused", st, second.Stats())
		}
		// The place of Accept and those of two connections are all there are.
		go first.Accept()
		synctest.Wait()
		if st := first.Stats(); st.Paused != 1 {
			t.Errorf("%+v, want Accept to wait for a place", st)
		}
		first.Reconfigure(ListenerConfig{})
		arrive()
		arrive()
		<-accepted
		synctest.Wait()
		if st := first.Stats(); st.Active != 4 {
			t.Errorf("%+v, want all connections accepted when the limits are gone", st)
		}
		first.Close()
	})
}

// TestPlaceOfAConnection: it is free when the connection has ended, and once, however often
// that is said.
func TestPlaceOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 8)
		l, err := NewListener(&failingListener{conns: conns}, ListenerConfig{
			AcceptProxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Limits: Limits{Connections: 1, PerClient: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			client, server := net.Pipe()
			conns <- server
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go io.WriteString(client, "a")
			b := make([]byte, 1) // this peer is not one that begins with a PROXY header
			if _, err := io.ReadFull(c, b); err != nil || b[0] != 'a' {
				t.Errorf("%q, %v", b, err)
			}
			c.Close()
			c.Close()
			if st := l.Stats(); st.Active != 0 || st.Refused != 0 {
				t.Errorf("%+v", st)
			}
		}
		_, server := net.Pipe()
		conns <- server
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { _, err := l.Accept(); done <- err }()
		synctest.Wait() // for a place
		l.Close()
		if err := <-done; err != net.ErrClosed {
			t.Errorf("%v, want %v", err, net.ErrClosed)
		}
	})
}
