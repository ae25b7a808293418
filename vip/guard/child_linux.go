package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/quietlog"
)

// Main is to be called first in main. It returns at once, unless this process
// was started as the guard of another: then it does a guard's work and ends the
// process.
func Main() {
	if os.Getenv(marker) == "" {
		return
	}
	if err := guard(); err != nil {
		say(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// What is carried out when the parent is dying, and when it is dead. Nobody hears
// that the addresses are free before they are, and the settings are put back when
// nothing is removed any more.
var (
	early = []socket{socketNetlink, socketIPv4, socketIPv6}
	late  = []socket{socketNetlink, socketNetfilter, socketSettings}
)

// guard waits for the parent's end.
func guard() error {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	prefer()
	debug.SetGCPercent(-1) // there will be no garbage to speak of
	died := make(chan os.Signal, 1)
	signal.Notify(died, deathSignal)
	// Nobody may be there to read it any more: a parent that dies while its
	// guard is being started anew has left a will, too.
	if _, err := unix.Write(fdReady, []byte(readyWord)); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("guard: %w", err)
	}
	unix.Close(fdReady)
	end := make(chan bool, 1)
	go func() { end <- waitForEnd() }()
	for {
		select {
		case quiet := <-end:
			if quiet {
				return nil
			}
			first, again := execute(early...), execute(late...)
			return errors.Join(first.report(), again.report())
		case <-died:
			if !threadEnded(os.Getenv(marker)) {
				continue // someone else's signal
			}
			first := execute(early...)
			// What a dying thread was doing in the kernel just then, such as
			// adding an address, is finished now.
			<-end
			again := execute(late...)
			return errors.Join(first.report(), again.report())
		}
	}
}

// waitForEnd returns when the parent has ended. It reports whether the parent
// has said that this is to have no consequences.
func waitForEnd() (quiet bool) {
	for {
		var b [1]byte
		n, err := unix.Read(fdLife, b[:])
		if !errors.Is(err, unix.EINTR) {
			return n == 1 && b[0] == quit
		}
	}
}

// threadEnded reports whether a thread of the parent has ended or is ending.
func threadEnded(tid string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", os.Getppid(), tid))
	if err != nil {
		return true
	}
	// The state follows the name, which is in parentheses and may hold anything.
	_, state, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// prefer makes it likely that this process runs in time, and survives when
// memory is short and the kernel kills its parent for it. All of it is best
// effort: it takes privileges that a guard may not have.
func prefer() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
}

// deed is what was done of the wills. Nobody may be reading what a guard says, so
// it says nothing before all is done.
type deed struct {
	count [sockets]int
	took  time.Duration
	errs  []error
}

// execute carries out what the wills want of these sockets, in this order.
func execute(order ...socket) (d deed) {
	began := time.Now()
	defer func() { d.took = time.Since(began) }()
	file, err := readAll(fdStore)
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("guard: wills: %w", err))
		return d
	}
	var shots []shot
	for _, content := range contents(file) {
		shots = append(shots, decode(content)...)
	}
	for _, socket := range order {
		for _, s := range shots {
			if s.socket != socket {
				continue
			}
			if err := s.send(); err != nil {
				d.errs = append(d.errs, fmt.Errorf("guard: %v: %w", s.socket, err))
				continue
			}
			d.count[s.socket]++
		}
	}
	return d
}

// report says what was done, and returns what was not.
func (d deed) report() error {
	say(fmt.Sprintf("guard: the process that this one guards has ended: %d netlink requests and %d packets sent within %v",
		d.count[socketNetlink]+d.count[socketNetfilter]+d.count[socketSettings], d.count[socketIPv4]+d.count[socketIPv6], d.took.Round(10*time.Microsecond)))
	return errors.Join(d.errs...)
}

// sayTime is for how long a guard that ends waits for whoever reads what it says.
const sayTime = 500 * time.Millisecond

func say(line string) { quietlog.Say(os.Stderr, line+"\n", sayTime) }

// readAll reads a file from its beginning; others may use its offset.
func readAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return b[:n], nil
		}
		n += m
	}
	return b, nil
}

// send sends the message without waiting.
func (s shot) send() error {
	fd := fdSockets + int(s.socket)
	var to unix.Sockaddr
	var oob []byte
	switch s.socket {
	case socketNetlink, socketNetfilter, socketSettings:
		// The kernel carries a request out before sendto returns.
		to = &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	case socketIPv4:
		to = &unix.SockaddrInet4{Addr: s.dst.As4()}
		if s.index != 0 {
			oob = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(s.index)})
		}
	case socketIPv6:
		to = &unix.SockaddrInet6{Addr: s.dst.As16()}
		if s.index != 0 {
			oob = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(s.index)})
		}
	}
	return unix.Sendmsg(fd, s.data, oob, to, unix.MSG_DONTWAIT)
}
