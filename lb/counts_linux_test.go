package lb

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/inet"
	"github.com/havip/havip/lb/internal/reactor"
)

// A connection that a loop gives to a goroutine, and takes back or not, is one connection of
// its client until it ends, in whatever way, and none after that.
func TestHandedOffConnectionsAreCounted(t *testing.T) {
	a := newAuthority(t)
	server := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	client := &tls.Config{ServerName: "a.test", RootCAs: a.pool}
	for what, bs := range map[string]Backend{"served": talker(t, "a"), "not served": closedBackend(t)} {
		tc := tcpWith(TCPConfig{TLS: server, Limits: Limits{PerClient: 1}})
		addr, stop := relay(t, tc, bs)
		e := engineOf(t, tc)
		for i, end := range []func(net.Conn){
			func(c net.Conn) { io.WriteString(c, "no TLS at all\r\n") },
			func(c net.Conn) { tls.Client(c, client).Handshake() },
			func(c net.Conn) { tls.Client(c, client).Handshake(); reset(c) },
			func(c net.Conn) { reset(c) },
		} {
			c := dialTest(t, addr)
			waitFor(t, what+": the connection to be counted", func() bool { return tc.Stats().Accepted == uint64(i+1) })
			end(c)
			c.Close()
			waitFor(t, what+": the connection to end", func() bool { return tc.Stats().Active == 0 })
		}
		if st := tc.Stats(); st.Active != 0 {
			t.Errorf("%s: %+v", what, st)
		}
		// None was refused because its client still had another one.
		c := tls.Client(dialTest(t, addr), client)
		if err := c.Handshake(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		c.Close()
		waitFor(t, what+": the loops to be without connections", func() bool {
			live := int32(0)
			for _, l := range e.loops {
				live += l.live.Load()
			}
			return live == 0 && tc.Stats().Active == 0
		})
		stop()
	}
}

// A connection that cannot be given to a goroutine has ended, and its client may have another
// one.
func TestConnectionsThatCannotBeHandedOffAreCounted(t *testing.T) {
	records := make(chan Record, 2)
	pool := newPool(t, PoolConfig{Backends: []Backend{talker(t, "a")}})
	tc := tcpWith(TCPConfig{Pool: pool, Routes: map[string]*Pool{"a.test": pool}, Limits: Limits{PerClient: 1}, Record: func(r Record) { records <- r }})
	addr, _ := relay(t, tc)
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	waitFor(t, "the connection to be counted", func() bool { return tc.Stats().Accepted == 1 })
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	e.eachLink(t, func(k *link) {
		// The net package takes only sockets.
		if err := unix.Dup3(int(null.Fd()), int(k.fd[0]), unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		k.origin.pool = pool
		k.handOff()
	})
	c.Close()
	if r := <-records; r.Reason == "" || r.Backend != "" || r.Client != inet.AddrPort(c.LocalAddr()) {
		t.Errorf("record %+v", r)
	}
	waitFor(t, "the connection to end", func() bool { return tc.Stats().Active == 0 })
	if st := tc.Stats(); st.Failed != 1 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	c = dialTest(t, addr)
	io.WriteString(c, "no TLS at all")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the next connection of the client: %v", err)
	}
}

// An event that the kernel had ready for a descriptor which is closed meanwhile concerns
// nobody, whoever has its place now.
func TestStaleEventsConcernNobody(t *testing.T) {
	_, e, c := oneLink(t)
	e.eachLink(t, func(k *link) {
		for side := range int32(2) {
			before := *k
			for _, mark := range []int32{k.mark[side] - 1, k.mark[side] + 1, 0} {
				k.loop.noteEvent(reactor.Event{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR, Fd: k.slot<<1 | side, Pad: mark})
			}
			if k.state != before.state || !reflect.DeepEqual(k.half, before.half) || k.failed != before.failed || k.gone != before.gone {
				t.Errorf("side %d: from %+v to %+v", side, before, *k)
			}
		}
		for _, slot := range []int{len(k.loop.links), len(k.loop.links) + 1000} {
			k.loop.noteEvent(reactor.Event{Events: unix.EPOLLIN, Fd: int32(slot) << 1, Pad: 1}) // it had a place once
		}
	})
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the connection does not go on: %v", err)
	}
}

// Where the kernel does not splice (EINVAL), bulk is copied.
func TestBulkIsCopiedWhereItCannotBeSpliced(t *testing.T) {
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	tc := tcpWith(TCPConfig{})
	next := make(chan struct{})
	addr, _ := relay(t, tc, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
		c.Write([]byte("x"))
		<-next
		c.Write(data)
	}))
	e := engineOf(t, tc)
	c := dialTest(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	e.eachLink(t, func(k *link) {
		// The end of the pipe that is filled becomes one that is no pipe.
		p, ok := reactor.NewPipe(pipeSize)
		if !ok {
			t.Error("no pipe")
			return
		}
		if err := unix.Dup3(pair[0], int(reflect.ValueOf(p).FieldByName("w").Int()), unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		if _, errno := p.Fill(k.fd[1], 1); errno != unix.EINVAL {
			t.Errorf("splicing without a pipe: %v, want EINVAL", errno)
		}
		k.loop.pipes = append(k.loop.pipes, p)
		k.loop.piping++
	})
	close(next)
	if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes arrive, %v, want the same %d", len(got), err, len(data))
	}
}

// A pipe that there was no descriptor for is none of the maxPipes.
func TestFailedPipeIsNotCounted(t *testing.T) {
	_, e, _ := oneLink(t)
	e.eachLink(t, func(k *link) {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
			return
		}
		before, none := k.loop.piping, limit
		none.Cur = 3
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
			t.Error(err)
			return
		}
		got := k.takePipe(&k.half[0])
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
		if got || k.loop.piping != before || k.half[0].pipe.Exists() {
			t.Errorf("a pipe %v, %d pipes counted, want none and %d", got, k.loop.piping, before)
		}
		if !k.takePipe(&k.half[0]) || k.loop.piping != before+1 {
			t.Errorf("with descriptors: %d pipes counted, want %d", k.loop.piping, before+1)
		}
	})
}
