package reactor

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// fill opens sockets until there are no more to be had, and returns their descriptors.
func fill(t *testing.T) (fds []int32) {
	t.Helper()
	for {
		fd, errno := Socket(unix.SOCK_DGRAM, netip.MustParseAddrPort("127.0.0.1:9"))
		if errno != 0 {
			if errno != unix.EMFILE {
				t.Fatal(errno)
			}
			return fds
		}
		fds = append(fds, fd)
		t.Cleanup(func() { Close(fd) })
	}
}

// What is left to the rest of the process follows RLIMIT_NOFILE: a limit that is lower is
// found out when it is in the way, one that is higher at once.
func TestReserveFollowsTheLimit(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(n uint64) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer set(before.Cur)
	MaxDescriptors()
	set(160)
	fds := fill(t) // up to the limit, of which nobody has told
	Close(fds[len(fds)-1])
	if got := fill(t); len(got) > 0 {
		t.Errorf("%d is one of the last of 160", got[0])
	}
	if !Reserved(140) || Reserved(139) {
		t.Error("want 20 of 160 to be left")
	}
	NoteAccepted(119, 0)
	if Crowded() {
		t.Error("crowded, though a connection was accepted before the last 40 of 160")
	}
	NoteAccepted(120, 0)
	if !Crowded() {
		t.Error("want accepting to pause")
	}
	set(320)
	if Crowded() {
		t.Error("crowded, though there are more now")
	}
	fds = fill(t)
	if last := fds[len(fds)-1]; last != 279 {
		t.Errorf("the last descriptor is %d, want 279 of 320", last)
	}
	set(240)
	NoteAccepted(-1, unix.EMFILE)
	if !Crowded() {
		t.Error("want accepting to pause when there are no descriptors")
	}
	set(before.Cur)
	if Crowded() {
		t.Error("crowded in the end")
	}
}
