package reactor

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring writes to many sockets by one system call, io_uring_enter(2). None of the writes waits.
// That saves more than the calls: whom the first write wakes does not get the processor before
// the last one. A Ring belongs to one goroutine.
type Ring struct {
	fd           int
	rings, slots []byte // memory that the kernel shares
	sends        []Send // of the next Submit
	sqes         []sqe
	sqTail       *uint32
	sqMask       uint32
	cqes         []cqe
	cqHead       *uint32
	cqTail       *uint32
	cqMask       uint32
}

// Send is one of the writes of a Ring.
type Send struct {
	Fd    int32
	Bytes []byte
	N     int        // how many bytes the socket has taken, maybe less than all
	Errno unix.Errno // why it has taken none: EAGAIN, if it is full, and EINTR, if that is not known
}

// RingSize is how many writes a Ring makes by one call.
const RingSize = 64

// sqe is struct io_uring_sqe, and cqe struct io_uring_cqe (include/uapi/linux/io_uring.h).
type sqe struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off, addr     uint64
	len, msgFlags uint32
	user          uint64
	_             [3]uint64
}

type cqe struct {
	user  uint64
	res   int32
	flags uint32
}

// ringParams is struct io_uring_params.
type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// From the same header.
const (
	opSend      = 26      // IORING_OP_SEND
	submitAll   = 1 << 7  // IORING_SETUP_SUBMIT_ALL: one that fails does not hold up the others
	coopTaskrun = 1 << 8  // IORING_SETUP_COOP_TASKRUN: no interrupts, and Linux 5.19
	singleMmap  = 1 << 0  // IORING_FEAT_SINGLE_MMAP
	getEvents   = 1 << 0  // IORING_ENTER_GETEVENTS
	offSqes     = 1 << 28 // IORING_OFF_SQES
)

// NewRing returns a Ring, or why there is none: ENOSYS or EINVAL from a kernel before 5.19, and
// EPERM where the sysctl kernel.io_uring_disabled, or a filter for system calls, rules it out, as
// container runtimes do.
func NewRing() (*Ring, error) {
	p := ringParams{flags: coopTaskrun | submitAll}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, RingSize, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &Ring{fd: int(fd)}
	err := r.open(&p)
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open maps the memory that r shares with the kernel.
func (r *Ring) open(p *ringParams) (err error) {
	if Reserved(int32(r.fd)) {
		return fmt.Errorf("io_uring_setup: %w", unix.EMFILE)
	}
	if p.features&singleMmap == 0 {
		return fmt.Errorf("io_uring_setup: %w", unix.ENOSYS)
	}
	const access, kind = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{})))
	if r.rings, err = unix.Mmap(r.fd, 0, int(size), access, kind); err != nil {
		return fmt.Errorf("io_uring: mmap: %w", err)
	}
	if r.slots, err = unix.Mmap(r.fd, offSqes, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})), access, kind); err != nil {
		return fmt.Errorf("io_uring: mmap: %w", err)
	}
	word := func(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[at])) }
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.slots[0])), p.sqEntries)
	r.sqTail, r.sqMask = word(p.sq.tail), *word(p.sq.mask)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.rings[p.cq.cqes])), p.cqEntries)
	r.cqHead, r.cqTail, r.cqMask = word(p.cq.head), word(p.cq.tail), *word(p.cq.mask)
	order := unsafe.Slice(word(p.sq.array), p.sqEntries)
	for i := range order { // each write has its own slot
		order[i] = uint32(i)
	}
	return nil
}

// Close gives up what r holds.
func (r *Ring) Close() {
	for _, b := range [][]byte{r.slots, r.rings} {
		if b != nil {
			_ = unix.Munmap(b)
		}
	}
	Close(int32(r.fd))
}

// Add adds a write of b to fd, one of up to RingSize. b must stay as it is until Submit.
func (r *Ring) Add(fd int32, b []byte) {
	i := uint32(len(r.sends))
	r.sends = append(r.sends, Send{Fd: fd, Bytes: b})
	r.sqes[(*r.sqTail+i)&r.sqMask] = sqe{
		opcode: opSend, fd: fd, addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), len: uint32(len(b)),
		msgFlags: unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT, user: uint64(i),
	}
}

// Submit makes the writes that were added, and returns what has become of each, in their order,
// until the next Add. After an error, r is of no use any more.
func (r *Ring) Submit() ([]Send, error) {
	n := len(r.sends)
	atomic.StoreUint32(r.sqTail, *r.sqTail+uint32(n))
	made, err := r.enter(n)
	for i := range r.sends {
		r.sends[i].Errno = unix.EINTR // not made
		if i < made {
			r.sends[i].Errno = unix.EIO // made, and nobody says how it went
		}
	}
	for done := r.collect(); done < made; done += r.collect() {
		// The kernel has put off what never waits, which it need not.
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 0, 1, getEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			err = fmt.Errorf("io_uring_enter: %w", errno)
			break
		}
	}
	for i := range r.sends {
		r.sends[i].Bytes = nil // the ring may have nothing to do for long
	}
	sends := r.sends
	r.sends = r.sends[:0]
	return sends, err
}

// enter has the kernel make n writes, and returns how many it has begun with.
func (r *Ring) enter(n int) (made int, err error) {
	for made < n {
		m, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(n-made), 0, 0, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0 || m == 0:
			return made, fmt.Errorf("io_uring_enter: %w", errno)
		default:
			made += int(m)
		}
	}
	return made, nil
}

// collect notes what has become of writes, and returns of how many.
func (r *Ring) collect() (n int) {
	head := *r.cqHead
	for ; head != atomic.LoadUint32(r.cqTail); head++ {
		c := r.cqes[head&r.cqMask]
		s := &r.sends[c.user]
		s.N, s.Errno = int(c.res), 0
		if c.res < 0 {
			s.N, s.Errno = 0, unix.Errno(-c.res)
		}
		n++
	}
	atomic.StoreUint32(r.cqHead, head)
	return n
}
