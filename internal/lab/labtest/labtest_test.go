package labtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestServe: connections are served until the test ends, whatever they wait for.
func TestServe(t *testing.T) {
	authority := Certificate(nil, nil, "authority")
	cert := Certificate(&authority, nil, "www.example.org", "127.0.0.1")
	var address string
	t.Run("while it runs", func(t *testing.T) {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		address = ln.Addr().String()
		Serve(t, ln, EchoLines("a"))
		for _, name := range []string{"", "www.example.org"} {
			c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: Pool(authority), ServerName: name})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintln(c, "hello")
			if got, err := bufio.NewReader(c).ReadString('\n'); got != "a hello\n" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("served after the test")
	}
	certificate, key := PEM(cert)
	if pair, err := tls.X509KeyPair(certificate, key); err != nil || !pair.Leaf.Equal(cert.Leaf) {
		t.Errorf("PEM: %v", err)
	}
}

// TestServeLate: a connection that comes while the test ends is closed, too.
func TestServeLate(t *testing.T) {
	t.Run("ends", func(t *testing.T) {
		Serve(t, &lateListener{closed: make(chan struct{})}, func(c net.Conn) {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("not closed")
			}
		})
	})
}

// lateListener accepts one connection, when it is closed.
type lateListener struct {
	closed   chan struct{}
	accepted bool
}

func (l *lateListener) Accept() (net.Conn, error) {
	if l.accepted {
		return nil, net.ErrClosed
	}
	l.accepted = true
	<-l.closed
	time.Sleep(time.Millisecond) // the connections that are there are closed first
	_, server := net.Pipe()
	return server, nil
}

func (l *lateListener) Close() error   { close(l.closed); return nil }
func (l *lateListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestRecord: what comes is kept byte by byte, and each request that is complete gets its
// answer.
func TestRecord(t *testing.T) {
	r := Record(t, Answers("one\n", "two\n"))
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	answers := bufio.NewReader(c)
	requests := []string{
		"POST / HTTP/1.1\r\nCONTENT-Length: 4\r\n\r\n\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0\r\n\r\r\nA\r\n0123456789\r\n0\r\nX: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nX:\x00 y\n\r\n",
	}
	for i, want := range []string{"one\n", "two\n", "two\n"} {
		fmt.Fprint(c, requests[i])
		if got, err := answers.ReadString('\n'); got != want || err != nil {
			t.Fatalf("answer %q, %v, want %q", got, err, want)
		}
	}
	if got := r.Requests(); !slices.Equal(got, requests) || len(r.Requests()) != 0 {
		t.Errorf("requests %q", got)
	}
	fmt.Fprint(c, "half")
	all := ""
	want := strings.Join(requests, "") + "half"
	for end := time.Now().Add(20 * time.Second); all != want && time.Now().Before(end); time.Sleep(time.Millisecond) {
		all += r.Bytes()
	}
	if all != want {
		t.Errorf("bytes %q", all)
	}
	if got := r.Requests(); len(got) != 0 {
		t.Errorf("requests %q", got)
	}
}
