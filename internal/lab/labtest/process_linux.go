package labtest

import (
	"os"
	"time"

	"github.com/havip/havip/internal/process"
)

// Ended reports whether a process has ended. Its parent may not have waited for it yet.
func Ended(pid int) bool {
	st, err := process.StatOf(pid)
	return err != nil || st.Ended()
}

// Children returns the processes that a process has started and that have not ended.
func Children(pid int) []int {
	return processes(func(st process.Stat) bool { return st.Parent == pid })
}

// ProcessorTime is what the processes of a group that have not ended have used.
func ProcessorTime(group int) (sum time.Duration) {
	for _, pid := range processes(func(st process.Stat) bool { return st.Group == group }) {
		if st, err := process.StatOf(pid); err == nil {
			sum += st.ProcessorTime
		}
	}
	return sum
}

// OwnTime is the processor time that this process has used: for a test that bounds work,
// whatever else the machine does.
func OwnTime() time.Duration {
	st, _ := process.StatOf(os.Getpid())
	return st.ProcessorTime
}

func processes(which func(process.Stat) bool) (list []int) {
	pids, _ := process.PIDs()
	for _, pid := range pids {
		if st, err := process.StatOf(pid); err == nil && !st.Ended() && which(st) {
			list = append(list, pid)
		}
	}
	return list
}
