package lb

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// countedCalls are those that a proxy has reason to make; raw_syscalls:sys_enter counts all.
const countedCalls = "read write readv writev pread64 recvfrom sendto recvmsg sendmsg splice tee sendfile64 " +
	"epoll_wait epoll_pwait epoll_pwait2 epoll_ctl io_uring_enter accept4 connect socket close shutdown setsockopt getsockopt " +
	"getsockname getpeername fcntl ioctl futex nanosleep clock_nanosleep timerfd_settime eventfd2 pipe2 sched_yield tgkill mmap munmap madvise"

// countCalls counts system calls of the processes until the function that it returns is
// called, which tells how many of each there were per request. It counts only if
// HAVIP_BENCH_CALLS is set, and needs perf. Without perf, the same can be had from
//
//	strace -f -c -U calls,errors,name -p PID
//
// while a load runs; that stops the process at each call, and so there is more to do at
// each turn of a loop than without it.
func countCalls(b testing.TB, pids []int) func(requests float64) string {
	b.Helper()
	if os.Getenv("HAVIP_BENCH_CALLS") == "" {
		return func(float64) string { return "" }
	}
	events, list := "raw_syscalls:sys_enter", ""
	for name := range strings.FieldsSeq(countedCalls) {
		events += ",syscalls:sys_enter_" + name
	}
	for _, pid := range pids {
		list += fmt.Sprint(",", pid)
	}
	// perf counts nothing until it is told to, says when it has begun, and ends with the processes
	tell, hear := mustPipe(b), mustPipe(b)
	c := exec.Command("perf", "stat", "-x", ",", "--delay", "-1", "--control", "fd:3,4", "-e", events, "-p", list[1:])
	var out bytes.Buffer
	c.Stdout, c.Stderr, c.ExtraFiles = &out, &out, []*os.File{tell[0], hear[1]}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	say := func(what string) {
		if _, err := tell[1].WriteString(what + "\n"); err != nil {
			b.Fatal(err)
		}
		if _, err := hear[0].Read(make([]byte, 16)); err != nil {
			b.Fatalf("perf: %v\n%s", err, out.String())
		}
	}
	closeAll(tell[0], hear[1])
	say("enable")
	return func(requests float64) string {
		say("disable")
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait() // perf ends by the signal
		closeAll(tell[1], hear[0])
		return perRequest(out.String(), requests)
	}
}

// mustPipe makes a pipe, as what is read and what is written.
func mustPipe(b testing.TB) [2]*os.File {
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	return [2]*os.File{r, w}
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// perRequest turns the lines of perf stat into calls per request, the most frequent first.
func perRequest(perf string, requests float64) string {
	type call struct {
		name  string
		count float64
	}
	var calls []call
	for line := range strings.Lines(perf) {
		f := strings.Split(line, ",")
		if len(f) < 3 {
			continue
		}
		count, err := strconv.ParseFloat(f[0], 64)
		_, name, found := strings.Cut(f[2], "sys_enter")
		if err != nil || !found || count/requests < 0.005 {
			continue
		}
		calls = append(calls, call{cmp.Or(strings.TrimPrefix(name, "_"), "all"), count / requests})
	}
	slices.SortStableFunc(calls, func(x, y call) int { return cmp.Compare(y.count, x.count) })
	s := ""
	for _, c := range calls {
		s += fmt.Sprintf(" %s %.2f", c.name, c.count)
	}
	return s
}
