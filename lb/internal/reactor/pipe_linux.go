package reactor

import "golang.org/x/sys/unix"

// Pipe is what splice(2) moves pages through. The zero value is none.
type Pipe struct{ r, w int32 }

// NewPipe returns a pipe that holds size bytes, or less if the user may not have as
// much: there is a limit for all pipes of an ordinary user together. It reports
// whether there is one.
func NewPipe(size int) (Pipe, bool) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return Pipe{}, false
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, size)
	return Pipe{int32(fds[0]), int32(fds[1])}, true
}

// Exists reports whether p is a pipe.
func (p Pipe) Exists() bool { return p.w != 0 }

// Close closes both ends.
func (p Pipe) Close() {
	Close(p.r)
	Close(p.w)
}

// Fill moves up to n bytes from a socket into p, and returns how many.
func (p Pipe) Fill(from int32, n int) (int, unix.Errno) { return splice(from, p.w, n) }

// Drain moves up to n bytes out of p to a socket, and returns how many.
func (p Pipe) Drain(to int32, n int) (int, unix.Errno) { return splice(p.r, to, n) }

func splice(from, to int32, n int) (int, unix.Errno) {
	moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
		unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	return int(moved), errno
}
