package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Stat is the beginning of /proc/PID/stat (proc(5)).
type Stat struct {
	Name          string // the first 15 bytes
	State         byte
	Parent, Group int    // 0 outside of this PID namespace
	Start         uint64 // the time of the start, in kernel ticks since boot
	ProcessorTime time.Duration

	flags uint64 // PF_ of the kernel's include/linux/sched.h
}

// Ended reports whether the process has ended. Its parent may not have waited for it yet.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// StatOf looks at a process.
func StatOf(pid int) (Stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	st, ok := ParseStat(text)
	if !ok {
		return Stat{}, fmt.Errorf("process: %d: no such state: %.100q", pid, text)
	}
	return st, nil
}

// ParseStat parses /proc/PID/stat. The name is in parentheses, and may itself
// contain anything. What is missing at the end is 0.
func ParseStat(stat []byte) (s Stat, ok bool) {
	begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || len(stat) < end+3 {
		return Stat{}, false
	}
	s = Stat{Name: string(stat[begin+1 : end]), State: stat[end+2]}
	fields := bytes.Fields(stat[end+3:]) // from the fourth one on
	number := func(field int) (n uint64) {
		if i := field - 4; i < len(fields) {
			n, _ = strconv.ParseUint(string(fields[i]), 10, 64)
		}
		return n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	s.ProcessorTime = time.Duration(number(14)+number(15)) * tick
	s.Parent, s.Group, s.Start, s.flags = int(number(4)), int(number(5)), number(22), number(9)
	return s, true
}

// PIDs returns the numbers of all processes.
func PIDs() (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}
