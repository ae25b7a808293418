package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/havip/havip/internal/process"
	"github.com/havip/havip/internal/quietlog"
)

// A process that was started as the guard of another is nothing else: the rest of
// the program does not come to run.
func init() {
	if isGuard() && os.Getenv(entryKey) == "" {
		serve(plainHandler)
	}
}

// isGuard reports whether this process was started as a guard. That the environment
// says so is not enough: it may come from anywhere.
func isGuard() bool {
	return os.Getenv(marker) != "" && len(os.Args) == 1 && os.Args[0] == processName
}

// logged: MainLog was called here, and so it will be in the guard.
var logged atomic.Bool

// MainLog is for a program whose log has a form of its own: handler makes what writes
// to w in that form, of which Config.Form is what the parent said. It is to be called
// first in main, and before Start. It returns at once, unless this process was started
// as the guard of another: then it does a guard's work and ends the process. nil is
// slog's text form, which a guard has, too, where MainLog is not called.
func MainLog(handler func(w io.Writer, form string) slog.Handler) {
	if handler == nil {
		handler = plainHandler
	}
	if isGuard() {
		serve(handler)
	}
	logged.Store(true)
}

func plainHandler(w io.Writer, _ string) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: quietlog.Readable})
}

// serve does a guard's work and ends the process.
func serve(handler func(w io.Writer, form string) slog.Handler) {
	// Nobody may be reading what a guard says: it says nothing before all is done.
	d, err := guard()
	out := quietlog.NewWriter(os.Stderr, func(int) []byte { return nil })
	number, _, _ := strings.Cut(os.Getenv(marker), "/")
	parent, _ := strconv.Atoi(number)
	d.report(slog.New(handler(out, os.Getenv(formKey))), parent, err)
	out.Flush(sayTime)
	if err != nil {
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

// guard waits for the parent's end, and returns what it did then: nil where the
// parent wants no consequences.
func guard() (*deed, error) {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	prefer()
	debug.SetGCPercent(-1) // there will be no garbage to speak of
	died := make(chan os.Signal, 1)
	signal.Notify(died, deathSignal)
	// Nobody may be there to read it any more: a parent that dies while its
	// guard is being started anew has left a will, too.
	if _, err := unix.Write(fdReady, []byte(readyWord)); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, err
	}
	unix.Close(fdReady)
	end := make(chan bool, 1)
	go func() { end <- waitForEnd() }()
	d := new(deed)
	for {
		select {
		case quiet := <-end:
			if quiet {
				return nil, nil
			}
			d.execute(early...)
		case <-died:
			if !threadEnded(os.Getenv(marker)) {
				continue // someone else's signal
			}
			d.execute(early...)
			// What a dying thread was doing in the kernel just then, such as
			// adding an address, is finished now.
			<-end
		}
		d.execute(late...)
		return d, errors.Join(d.errs...)
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
func threadEnded(thread string) bool {
	b, err := os.ReadFile("/proc/" + thread + "/stat")
	if err != nil {
		return true
	}
	st, _ := process.ParseStat(b)
	return st.Ended()
}

// prefer makes it likely that this process runs in time, and survives when
// memory is short and the kernel kills its parent for it. All of it is best
// effort: it takes privileges that a guard may not have.
func prefer() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
}

// deed is what was done of the wills.
type deed struct {
	removed, goodbye []string // the wills by which an address went, and a packet was sent
	took             time.Duration
	errs             []error
}

// execute carries out what the wills want of these sockets, in this order.
func (d *deed) execute(order ...socket) {
	began := time.Now()
	defer func() { d.took += time.Since(began) }()
	file, err := readAll(fdStore)
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("wills: %w", err))
		return
	}
	var wills []testament
	for _, content := range contents(file) {
		wills = append(wills, decode(content))
	}
	for _, socket := range order {
		for _, w := range wills {
			for _, s := range w.shots {
				if s.socket == socket {
					d.carryOut(w.name, s)
				}
			}
		}
	}
}

// carryOut sends one message of a will.
func (d *deed) carryOut(name string, s shot) {
	err := s.send()
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("%s: %v: %w", name, s.socket, err))
		return
	}
	if s.socket.packet() {
		d.goodbye = with(d.goodbye, name)
		return
	}
	if s.socket == socketNetlink && !refused(fdSockets+int(s.socket)) && s.removesAddress() {
		d.removed = with(d.removed, name)
	}
}

// with appends what is not there yet.
func with(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// removesAddress reports whether a message is a request to remove an address
// (netlink(7): the type follows the length).
func (s shot) removesAddress() bool {
	return len(s.data) >= unix.NLMSG_HDRLEN && binary.NativeEndian.Uint16(s.data[4:]) == unix.RTM_DELADDR
}

// refused reads the kernel's answer to what was just sent, if there is one: it comes
// before sendto returns. The removal of an address that is not there is refused, as
// are those of a backup.
func refused(fd int) (refused bool) {
	b := make([]byte, 8192)
	for {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return refused
		}
		// An acknowledgement is an error of number 0.
		refused = n >= unix.NLMSG_HDRLEN+4 && binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR &&
			binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]) != 0
	}
}

// report says what was done, and what was not; nil: nothing was to be. parent is the
// number of the process that has died: what it died of is told to nobody but its own
// parent.
func (d *deed) report(log *slog.Logger, parent int, err error) {
	if d != nil {
		what, whose := "it held no address", []any{"pid", parent}
		if len(d.removed) > 0 {
			what, whose = "its addresses are removed", append(whose, "removed", d.removed)
		}
		if len(d.goodbye) > 0 {
			whose = append(whose, "goodbye", d.goodbye)
		}
		log.With(whose...).Error("guard: the guarded process has died: "+what,
			"hint", "its exit status is in the service manager's log, an OOM kill in the kernel's", "took", d.took.Round(10*time.Microsecond))
	}
	if err != nil {
		log.Error("guard: not everything was done", "err", err)
	}
}

// sayTime is for how long a guard that ends waits for whoever reads what it says.
const sayTime = 500 * time.Millisecond

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
