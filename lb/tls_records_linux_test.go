package lb

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/lb/internal/reactor"
)

// Types of records and of messages of TLS 1.3 (RFC 8446 §5.1, §4).
const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
	finished      = 20
	keyUpdate     = 24
)

// recordClient is a client of TLS 1.3 that writes whatever records a test wants.
type recordClient struct {
	*tls.Conn // reads
	socket    net.Conn
	secret    []byte
	seal      cipher.AEAD
	iv        []byte
	seq       uint64
	unsent    []byte
	asked     int // for new keys, by Write
}

// newRecordClient shakes hands on a socket.
func newRecordClient(t *testing.T, socket net.Conn, cfg *tls.Config) *recordClient {
	t.Helper()
	var keys bytes.Buffer
	cfg = cfg.Clone()
	cfg.MinVersion, cfg.KeyLogWriter = tls.VersionTLS13, &keys
	c := &recordClient{Conn: tls.Client(socket, cfg), socket: socket}
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if s := c.ConnectionState().CipherSuite; s != tls.TLS_AES_128_GCM_SHA256 {
		lab.Lacking(t, "this processor has no AES: crypto/tls prefers "+tls.CipherSuiteName(s))
	}
	for line := range strings.Lines(keys.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			c.secret, _ = hex.DecodeString(f[2])
		}
	}
	c.useSecret()
	return c
}

// expand derives a key from the secret (RFC 8446 §7.1).
func (c *recordClient) expand(label string, size int) []byte {
	label = "tls13 " + label
	key, err := hkdf.Expand(sha256.New, c.secret, string([]byte{0, byte(size), byte(len(label))})+label+"\x00", size)
	if err != nil {
		panic(err)
	}
	return key
}

func (c *recordClient) useSecret() {
	block, err := aes.NewCipher(c.expand("key", 16))
	if err == nil {
		c.seal, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err)
	}
	c.iv, c.seq = c.expand("iv", 12), 0
}

// add makes a record of what one holds, and of zeros behind it.
func (c *recordClient) add(kind byte, inside []byte, padding int) {
	plain := append(append(bytes.Clone(inside), kind), make([]byte, padding)...)
	head := binary.BigEndian.AppendUint16([]byte{typeData, 3, 3}, uint16(len(plain)+c.seal.Overhead()))
	nonce := bytes.Clone(c.iv)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^c.seq)
	c.seq++
	c.unsent = append(append(c.unsent, head...), c.seal.Seal(nil, nonce, plain, head)...)
}

// addKeys changes the keys, and asks for the same if answer is 1. The message comes in two
// records if split.
func (c *recordClient) addKeys(answer byte, split bool) {
	m := []byte{keyUpdate, 0, 0, 1, answer}
	if split {
		c.add(typeHandshake, m[:2], 0)
		m = m[2:]
	}
	c.add(typeHandshake, m, 0)
	c.secret = c.expand("traffic upd", 32)
	c.useSecret()
}

// send sends what was added.
func (c *recordClient) send() error {
	b := c.unsent
	c.unsent = nil
	_, err := c.socket.Write(b)
	return err
}

// Write writes b in records of any size, among others that hold nothing.
func (c *recordClient) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		for range rand.IntN(3) {
			switch rand.IntN(3) {
			case 0:
				c.add(typeData, nil, rand.IntN(300))
			case 1:
				// Without data between them a client takes 16 answers.
				answer := byte(0)
				if c.asked < 8 && rand.IntN(2) == 0 {
					answer = 1
					c.asked++
				}
				c.addKeys(answer, rand.IntN(2) == 0)
			case 2:
				c.add(typeAlert, []byte{1, 90}, 0) // user_canceled, which is only a warning
			}
		}
		n := min(1+rand.IntN([]int{30, 3000, 16<<10 - 20}[rand.IntN(3)]), len(rest))
		c.add(typeData, rest[:n], rand.IntN(20))
		rest = rest[n:]
	}
	return len(b), c.send()
}

// chopped is a socket that sends what it is given in pieces, which are no whole records.
type chopped struct{ net.Conn }

func (c chopped) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(1+rand.IntN(20<<10), len(rest))
		if _, err := c.Conn.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// testPlaneTLS starts a plane with TLS on both sides whose backend serves connections by
// serve. It returns the plane's address and what a client needs.
func testPlaneTLS(t *testing.T, tc *testTCP, serve func(net.Conn)) (address string, client *tls.Config) {
	t.Helper()
	a := newAuthority(t)
	server := &tls.Config{GetCertificate: a.certificates(a.issue("a", "a.test")).GetCertificate}
	client = &tls.Config{ServerName: "a.test", RootCAs: a.pool}
	ln := tls.NewListener(listenTest(t), server)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	tc.TLS, tc.BackendTLS = server, client
	address, _ = relay(t, tc, Backend{Address: ln.Addr().String()})
	return address, client
}

// echoOf writes and reads size bytes that no other connection has, and returns what is wrong.
func echoOf(c net.Conn, number uint64, size int) error {
	pattern := func() *rand.ChaCha8 {
		var seed [32]byte
		binary.BigEndian.PutUint64(seed[:], number)
		return rand.NewChaCha8(seed)
	}
	_ = c.SetDeadline(time.Now().Add(bound))
	var wrote sync.WaitGroup
	defer wrote.Wait()
	wrote.Go(func() {
		sent, buf := pattern(), make([]byte, 40<<10)
		for left := size; left > 0; {
			b := buf[:min(1+rand.IntN(len(buf)), left)]
			_, _ = sent.Read(b)
			if _, err := c.Write(b); err != nil {
				return // the reader sees it as well
			}
			left -= len(b)
		}
	})
	want, buf := pattern(), make([]byte, 40<<10)
	for left := size; left > 0; {
		b := buf[:min(1+rand.IntN(len(buf)), left)]
		if n, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("after %d bytes: %w", size-left+n, err)
		}
		expected := make([]byte, len(b))
		if _, _ = want.Read(expected); !bytes.Equal(b, expected) {
			return fmt.Errorf("wrong ones among bytes %d to %d", size-left, size-left+len(b))
		}
		left -= len(b)
	}
	return nil
}

// Many connections of a loop use the same buffers, one after the other: each gets its own
// bytes, whatever records these came in and wherever a read has stopped.
func TestTLSBytesStayWithTheirConnections(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, c) })
	old := cfg.Clone()
	old.MaxVersion = tls.VersionTLS12
	cbc := old.Clone()
	cbc.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
	var all sync.WaitGroup
	for i := range 32 {
		var c net.Conn
		switch socket := (chopped{dialTest(t, addr)}); i % 4 {
		case 0:
			c = tls.Client(socket, cfg)
		case 1:
			c = tls.Client(socket, old)
		case 2:
			c = tls.Client(socket, cbc)
		default:
			c = newRecordClient(t, socket, cfg)
		}
		all.Go(func() {
			if err := echoOf(c, uint64(i), 400<<10); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// Another version of Go may have no buffer that can be lent: all works without.
func TestTLSWithoutTheLoopsBuffers(t *testing.T) {
	raw := rawInput
	rawInput = nil
	t.Cleanup(func() { rawInput = raw }) // after the plane's end
	tc := tcpWith(TCPConfig{})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, c) })
	if err := echoOf(tls.Client(chopped{dialTest(t, addr)}, cfg), 1, 1<<20); err != nil {
		t.Error(err)
	}
	for _, l := range engineOf(t, tc).loops {
		l.within(t, func() {
			if l.tls.lent != 0 || len(l.tls.raw) != 0 {
				t.Errorf("%d buffers are lent, and %d kept", l.tls.lent, len(l.tls.raw))
			}
		})
	}
}

// A connection whose own buffer has become large is none that has one of the loop's.
func TestLargeBuffersAreNotTheLoops(t *testing.T) {
	r := newRecords(new(tlsBuffers), -1, tls.Client(nil, &tls.Config{}), new(prefaced))
	l := r.wire.buffers
	rawInput(r.conn).Grow(2 * rawSize)
	rawInput(r.conn).WriteString("begun")
	r.releaseBuffer()
	if l.lent != 0 || len(l.raw) != 0 {
		t.Errorf("%d buffers are lent and %d kept, want none", l.lent, len(l.raw))
	}
	r.lendBuffer()
	if l.lent != 1 || rawInput(r.conn).String() != "begun" {
		t.Errorf("%d buffers are lent, and %q is in it", l.lent, rawInput(r.conn))
	}
	r.takeBuffer()
	if l.lent != 1 {
		t.Error("the half of a record was taken away")
	}
	r.releaseBuffer()
	if l.lent != 0 || len(l.raw) != 1 {
		t.Errorf("%d buffers are lent and %d kept in the end, want 0 and 1", l.lent, len(l.raw))
	}
}

// What comes behind an error of TLS does not count, also if data came before it in the same
// read: the backend gets that, and a reset.
func TestNothingFollowsAnErrorOfTLS(t *testing.T) {
	got := make(chan string, 1)
	records := make(chan Record, 1)
	tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) {
		b, err := io.ReadAll(c)
		got <- fmt.Sprintf("%s %v", b, err == nil)
	})
	c := newRecordClient(t, dialTest(t, addr), cfg)
	c.add(typeData, []byte("before"), 0)
	c.add(typeHandshake, []byte{finished, 0, 0, 0}, 0) // there is no handshake
	c.add(typeData, []byte("behind"), 0)
	c.add(typeAlert, []byte{1, 0}, 0) // the end
	if err := c.send(); err != nil {
		t.Fatal(err)
	}
	if s := <-got; strings.Contains(s, "behind") || strings.Contains(s, "true") {
		t.Errorf("the backend got %q, want no more than what came before, and a reset", s)
	}
	if r := nextRecord(t, records); r.Reason != "reset" {
		t.Errorf("%+v, want a reset", r)
	}
}

// A client that takes nothing and asks for new keys again and again does not make the
// balancer keep all of the answers.
func TestAnswersToNewKeysAreBounded(t *testing.T) {
	records := make(chan Record, 1)
	tc := tcpWith(TCPConfig{Record: func(r Record) { records <- r }})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) {
		go c.Write(make([]byte, 64<<20))
		io.Copy(io.Discard, c)
	})
	c := newRecordClient(t, dialTest(t, addr), cfg)
	e := engineOf(t, tc)
	waitFor(t, "the client to be full", func() (full bool) {
		e.eachLink(t, func(k *link) { full = k.half[1].full() && !k.half[1].writable })
		return full
	})
	const requests = 40000 // 1 MB of answers
	for i := range requests {
		c.addKeys(1, false)
		c.add(typeData, []byte("x"), 0)
		if i%100 == 99 && c.send() != nil {
			break
		}
	}
	_ = c.send()
	select {
	case r := <-records:
		if r.Reason != "reset" {
			t.Errorf("%+v, want a reset", r)
		}
	case <-time.After(bound):
		e.eachLink(t, func(k *link) { t.Errorf("%d bytes are pending", len(k.half[1].pending)) })
	}
}

// Tiny records, which take as much time as large ones, do not take a loop's time from other
// connections: they have their turn as well.
func TestTinyRecordsLeaveOthersTheirTurn(t *testing.T) {
	tc := tcpWith(TCPConfig{})
	addr, cfg := testPlaneTLS(t, tc, func(c net.Conn) { io.Copy(io.Discard, c) })
	c := newRecordClient(t, dialTest(t, addr), cfg)
	e := engineOf(t, tc)
	waitFor(t, "the connection to be in a loop", func() (found bool) {
		e.eachLink(t, func(k *link) { found = k.tls[0] != nil && k.tls[0].wire.dry })
		return found
	})
	var l *loop
	var k *link
	e.eachLink(t, func(found *link) { l, k = found.loop, found })
	release := e.hold()
	const most = maxRecords * turn / openCost
	for range 2 * most {
		c.add(typeData, []byte("x"), 0)
	}
	turns := make(chan int64, 1)
	fd := k.fd[0]
	l.Post(func() { // before the loop knows of them
		for {
			if n, _ := unix.IoctlGetInt(int(fd), unix.TIOCINQ); n >= 2*most*23 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		l.noteEvent(reactor.Event{Fd: k.slot << 1, Pad: k.mark[0], Events: unix.EPOLLIN})
		turns <- k.half[0].read
	})
	release()
	if err := c.send(); err != nil {
		t.Fatal(err)
	}
	if n := <-turns; n == 0 || n > most {
		t.Errorf("%d records were read in one turn, want %d at most", n, most)
	}
	waitFor(t, "the others to be read", func() (all bool) {
		e.eachLink(t, func(k *link) { all = k.half[0].written == 2*most })
		return all
	})
}

// While there is something that was decrypted and not returned yet, its memory is not given
// to another connection; once there is nothing, TLS does not refer to it any more.
func TestDecryptedBytesKeepTheBuffer(t *testing.T) {
	r := newRecords(new(tlsBuffers), -1, tls.Client(nil, &tls.Config{}), new(prefaced))
	l, raw, plain := r.wire.buffers, rawInput(r.conn), plainInput(r.conn)
	r.lendBuffer()
	raw.WriteString("secret")
	plain.Reset(raw.Next(6))
	r.takeBuffer()
	if len(l.raw) != 0 || plain.Len() != 6 {
		t.Errorf("%d buffers are free, and %d decrypted bytes are left, want none and 6", len(l.raw), plain.Len())
	}
	r.releaseBuffer()
	if len(l.raw) != 1 || plain.Len() != 0 || raw.Cap() >= rawSize {
		t.Errorf("in the end %d buffers are free, and %d decrypted bytes are left, want 1 and none", len(l.raw), plain.Len())
	}
}
