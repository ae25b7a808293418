package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/lab"
)

// answerTTL is the TTL in LB-01's answers, by which a witness tells them from
// LB-02's, where it is one more.
const answerTTL = 62

// witness is a client that asks a virtual address for an answer at each
// beat, and watches meanwhile which node has the address and who
// advertises. One thread does all of it, so that everything has the time of
// one clock and is in order.
type witness struct {
	beat   time.Duration
	vip    netip.Addr
	side   func(netip.Addr) int // the node that an advertisement comes from
	ping   int                  // raw ICMP socket of the client; the kernel of the node answers
	vrrp   int                  // raw VRRP socket of the client
	kernel [2]int               // netlink sockets of the nodes, subscribed to addresses
	forgot [2]atomic.Bool
	stop   atomic.Bool
	done   chan struct{}
	err    error // why it ended, valid after done

	mu      sync.Mutex
	looks   []look
	adverts []advert
	waits   []stall // for the kernel's lock
}

// look is what a witness found at a time.
type look struct {
	at       time.Time
	answered holders // the nodes that have answered since the last look
	by       holders // the nodes that have the address
}

// advert is an advertisement that a witness has heard.
type advert struct {
	at       time.Time
	side     int
	priority uint8
}

// newWitness starts a witness at the client. inside runs a function in the
// network namespace of a node, whose default TTL it sets. A witness runs before
// everybody else: dozens of them with a beat of a millisecond leave no time for those
// whom they watch.
func newWitness(beat time.Duration, client *lab.Host, inside [2]func(func() error) error, vip netip.Addr, side func(netip.Addr) int) (*witness, error) {
	w := &witness{beat: beat, vip: vip, side: side, ping: -1, vrrp: -1, kernel: [2]int{-1, -1}, done: make(chan struct{})}
	err := client.Do(w.openClient)
	for i, in := range inside {
		if err == nil {
			err = in(func() error {
				ttl := strconv.Itoa(answerTTL + i)
				if err := os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte(ttl), 0); err != nil {
					return err
				}
				w.kernel[i], err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
				if err != nil {
					return err
				}
				return unix.Bind(w.kernel[i], &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_IFADDR})
			})
		}
	}
	if err != nil {
		w.closeSockets()
		return nil, fmt.Errorf("witness: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	queue, err := watchQueue(ctx, client, w.waited)
	if err != nil {
		cancel()
		w.closeSockets()
		return nil, fmt.Errorf("witness: %w", err)
	}
	go func() {
		w.run()
		cancel()
		<-queue
		close(w.done)
	}()
	return w, nil
}

func (w *witness) openClient() error {
	var err error
	const kind = unix.SOCK_RAW | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if w.ping, err = unix.Socket(unix.AF_INET, kind, unix.IPPROTO_ICMP); err != nil {
		return err
	}
	const vrrpProtocol = 112
	if w.vrrp, err = unix.Socket(unix.AF_INET, kind, vrrpProtocol); err != nil {
		return err
	}
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	return unix.SetsockoptIPMreqn(w.vrrp, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
		&unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 18}, Ifindex: int32(ifi.Index)})
}

// close ends the witness and tells whether it saw everything.
func (w *witness) close() error {
	w.stop.Store(true)
	<-w.done
	return w.err
}

func (w *witness) closeSockets() {
	for _, fd := range []int{w.ping, w.vrrp, w.kernel[0], w.kernel[1]} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// forget says that a node is no more. The witness then has nothing in its
// namespace any longer.
func (w *witness) forget(side int) error {
	w.forgot[side].Store(true)
	for {
		w.mu.Lock()
		gone := w.kernel[side] < 0
		w.mu.Unlock()
		if gone {
			return nil
		}
		select {
		case <-w.done:
			return w.err
		case <-time.After(w.beat):
		}
	}
}

// waited notes that a change had to wait for d.
func (w *witness) waited(d time.Duration) {
	if d < 10*w.beat {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits = append(w.waits, stall{time.Now(), d})
}

func (w *witness) run() {
	defer w.closeSockets()
	runtime.LockOSThread() // for good: the priority ends with the thread
	// Best effort: a witness that looks late has seen less.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	buf := make([]byte, 1<<16)
	var now look
	for next := time.Now(); !w.stop.Load(); {
		if now, w.err = w.look(buf, now.by); w.err != nil {
			return
		}
		next = next.Add(w.beat)
		if pause := time.Until(next); pause > 0 {
			ts := unix.NsecToTimespec(int64(pause))
			_ = unix.Nanosleep(&ts, nil)
		} else {
			next = time.Now()
		}
	}
}

// look looks once, and asks for the next answer.
func (w *witness) look(buf []byte, by holders) (look, error) {
	// First LB-02, the heir: by the time that its news are read, those of LB-01
	// that came before have come.
	for _, side := range []int{1, 0} {
		var err error
		if by, err = w.readKernel(buf, side, by); err != nil {
			return look{}, err
		}
	}
	l := look{at: time.Now(), by: by}
	for b := receive(w.ping, buf); b != nil; b = receive(w.ping, buf) {
		const echoReply = 0
		if src, payload := parseIPv4(b); src == w.vip && len(payload) >= 8 && payload[0] == echoReply {
			l.answered |= 1 << ((b[8] - answerTTL) & 1)
		}
	}
	w.mu.Lock()
	for b := receive(w.vrrp, buf); b != nil; b = receive(w.vrrp, buf) {
		if src, payload := parseIPv4(b); len(payload) >= 8 {
			w.adverts = append(w.adverts, advert{l.at, w.side(src), payload[2]})
		}
	}
	w.looks = append(w.looks, l)
	seq := uint16(len(w.looks))
	w.mu.Unlock()

	const echoRequest, id = 8, 0x6876
	request := []byte{echoRequest, 0, 0, 0, id >> 8, id & 0xff, byte(seq >> 8), byte(seq)}
	binary.BigEndian.PutUint16(request[2:], internetChecksum(request))
	// Nobody may be there to answer: that is not an error here.
	_ = unix.Sendto(w.ping, request, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: w.vip.As4()})
	return l, nil
}

// readKernel brings up to date who has the address.
func (w *witness) readKernel(buf []byte, side int, by holders) (holders, error) {
	fd, bit := w.kernel[side], holders(1<<side)
	if w.forgot[side].Load() && fd >= 0 {
		unix.Close(fd)
		w.mu.Lock()
		w.kernel[side], fd = -1, -1
		w.mu.Unlock()
	}
	if fd < 0 {
		return by &^ bit, nil
	}
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return by, nil
		case err != nil:
			return by, fmt.Errorf("witness: netlink: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			kind := binary.NativeEndian.Uint16(b[4:])
			if size < unix.SizeofNlMsghdr || size > len(b) {
				break
			}
			if local(b[unix.SizeofNlMsghdr:size]) == w.vip {
				switch kind {
				case unix.RTM_NEWADDR:
					by |= bit
				case unix.RTM_DELADDR:
					by &^= bit
				}
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// local returns the IPv4 address that an address message is about.
func local(b []byte) netip.Addr {
	if len(b) < unix.SizeofIfAddrmsg || b[0] != unix.AF_INET {
		return netip.Addr{}
	}
	for b = b[unix.SizeofIfAddrmsg:]; len(b) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFA_LOCAL {
			a, _ := netip.AddrFromSlice(b[unix.SizeofRtAttr:size])
			return a
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return netip.Addr{}
}

// receive returns a packet that has come, or nil.
func receive(fd int, buf []byte) []byte {
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func parseIPv4(b []byte) (src netip.Addr, payload []byte) {
	if len(b) < 20 || len(b) < int(b[0]&0xf)*4 {
		return netip.Addr{}, nil
	}
	return netip.AddrFrom4([4]byte(b[12:16])), b[int(b[0]&0xf)*4:]
}

func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// now returns what was found last, and whether the client had an answer in
// the last few looks.
func (w *witness) now() (by holders, answered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.looks) == 0 {
		return nobody, false
	}
	for _, l := range w.looks[max(0, len(w.looks)-lost):] {
		answered = answered || l.answered != nobody
	}
	return w.looks[len(w.looks)-1].by, answered
}

// lost is how many looks in a row without an answer are silence: an answer
// may be a little late.
const lost = 3

// silence returns the longest time without an answer that did not end before
// then.
func (w *witness) silence(then time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := -1
	for i, l := range w.looks {
		if l.answered == nobody {
			continue
		}
		if last >= 0 && i-last >= lost && l.at.After(then) {
			longest = max(longest, l.at.Sub(w.looks[last].at))
		}
		last = i
	}
	return longest
}

// answers returns when LB-02 answered first since then.
func (w *witness) answers(then time.Time) (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.looks {
		if l.at.After(then) && l.answered&lb02 != 0 {
			return l.at, true
		}
	}
	return time.Time{}, false
}

// both returns for how long both nodes had the address since then.
func (w *witness) both(then time.Time) time.Duration { return w.spent(then, both) }

// spent returns for how long the holders were these since then.
func (w *witness) spent(then time.Time, by holders) (d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.looks[:max(0, len(w.looks)-1)] {
		if l.by == by && l.at.After(then) {
			d += w.looks[i+1].at.Sub(l.at)
		}
	}
	return d
}

// stalled returns by how much looks were too late from then until the end, and for
// how long no address could have been changed.
func (w *witness) stalled(then, end time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	stalls := slices.Clone(w.waits)
	for i, l := range w.looks[:max(0, len(w.looks)-1)] {
		next := w.looks[i+1].at
		if gap := next.Sub(l.at); l.at.After(then) && gap > 10*w.beat {
			stalls = append(stalls, stall{next, gap - w.beat})
		}
	}
	return total(stalls, then, end)
}

// heard returns the advertisements since then, oldest first.
func (w *witness) heard(then time.Time) []advert {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range w.adverts {
		if a.at.After(then) {
			return w.adverts[i:len(w.adverts):len(w.adverts)]
		}
	}
	return nil
}
