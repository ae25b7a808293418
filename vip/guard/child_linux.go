package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
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

// A process that was started as a guard does not reach main.
func init() {
	if isGuard() && os.Getenv(entryKey) == "false" {
		serve(plainHandler)
	}
}

// isGuard reports whether this process was started as a guard. The environment alone is not
// enough: another process may inherit it.
func isGuard() bool {
	return os.Getenv(marker) != "" && len(os.Args) == 1 && os.Args[0] == processName
}

// logged: main calls MainLog, here and in the guard.
var logged atomic.Bool

// MainLog is for a program whose log has a form of its own. Call it first in main, before
// any Start. In a process that was started as a guard MainLog does the guard's work and ends
// the process; otherwise it returns at once. The guard logs to handler(w, form), where form
// is its parent's Config.Form. A nil handler writes slog's text form, as a guard does in a
// program that does not call MainLog.
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
	// A write to standard error may block: the guard logs after its work.
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

// early is carried out when the parent is dying, late when it is dead. Packets that say
// that the addresses are free come after their removal, and settings after all removals.
var (
	early = []socket{socketNetlink, socketIPv4, socketIPv6}
	late  = []socket{socketNetlink, socketNetfilter, socketSettings}
)

// guard waits for the parent's end, carries out the wills, and returns what it did; nil: the
// parent has ended the guard.
func guard() (*deed, error) {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	prefer()
	debug.SetGCPercent(-1) // a guard makes hardly any garbage
	died := make(chan os.Signal, 1)
	signal.Notify(died, deathSignal)
	// EPIPE: the parent has died while it started this guard anew, and has left wills.
	if _, err := unix.Write(fdReady, []byte(readyWord)); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, err
	}
	unix.Close(fdReady)
	end := make(chan bool, 1)
	go func() {
		b := make([]byte, 1)
		n, _ := os.Stdin.Read(b) // nothing comes but quit, or the end when the parent has died
		end <- n == 1 && b[0] == quit
	}()
	d := &deed{one: os.NewFile(uintptr(fdStore), "wills"), two: os.NewFile(uintptr(fdStore+1), "wills")}
	for {
		select {
		case quiet := <-end:
			if quiet {
				return nil, nil
			}
			d.execute(early...)
		case <-died:
			if !threadEnded(os.Getenv(marker)) {
				continue // the signal is not from the kernel
			}
			d.execute(early...)
			// Now system calls of dying threads are finished, such as one that
			// adds an address.
			<-end
		}
		d.execute(late...)
		return d, errors.Join(d.errs...)
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

// prefer makes it likely that this process runs in time, and survives when the kernel
// kills its parent for lack of memory. It is best effort: a guard may lack the privileges.
func prefer() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
}

// deed is what the guard has done.
type deed struct {
	one, two         *os.File // of the store
	removed, goodbye []string // names of wills that removed an address, and that sent a packet
	took             time.Duration
	errs             []error
}

// execute carries out the messages of all wills for some sockets, in the order of sockets.
func (d *deed) execute(order ...socket) {
	began := time.Now()
	defer func() { d.took += time.Since(began) }()
	wills := contents(d.read(d.one), d.read(d.two))
	for _, socket := range order {
		for _, name := range slices.Sorted(maps.Keys(wills)) {
			for _, s := range decode(wills[name]) {
				if s.socket == socket {
					d.carryOut(name, s)
				}
			}
		}
	}
}

// read returns a file from its beginning: processes share the offset.
func (d *deed) read(f *os.File) []byte {
	var b []byte
	info, err := f.Stat()
	if err == nil {
		b = make([]byte, info.Size())
		_, err = f.ReadAt(b, 0)
	}
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("wills: %w", err))
	}
	return b
}

// carryOut sends one message of a will.
func (d *deed) carryOut(name string, s shot) {
	switch err := s.send(); {
	case err != nil:
		d.errs = append(d.errs, fmt.Errorf("%s: %v: %w", name, s.socket, err))
	case s.socket == socketIPv4, s.socket == socketIPv6:
		d.goodbye = with(d.goodbye, name)
	case s.socket == socketNetlink && !refused(s.fd()) && s.removesAddress():
		d.removed = with(d.removed, name)
	}
}

// with appends name unless list has it.
func with(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// fd is the socket that the message is sent on.
func (s shot) fd() int { return fdSockets + int(s.socket) }

// removesAddress reports whether a message is a request to remove an address
// (netlink(7): the type follows the length).
func (s shot) removesAddress() bool {
	return len(s.data) >= unix.NLMSG_HDRLEN && binary.NativeEndian.Uint16(s.data[4:]) == unix.RTM_DELADDR
}

// refused reports whether the kernel has refused the last request: its answer is there when
// sendto returns. It refuses to remove an address that is not there, as on a Backup.
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
		// An acknowledgement is an error with number 0.
		refused = n >= unix.NLMSG_HDRLEN+4 && binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR &&
			binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]) != 0
	}
}

// report logs what was done, and what has failed. A nil deed was none. parent is the number
// of the process that has died; only that process's own parent knows what it died of.
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

// sayTime is how long a guard waits at its end until its log is read.
const sayTime = 500 * time.Millisecond

// send sends the message without waiting. With index 0 the routing table decides (ip(7),
// RFC 3542 §6.2).
func (s shot) send() error {
	// The kernel carries a request out before sendto returns.
	var to unix.Sockaddr = &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	var oob []byte
	switch s.socket {
	case socketIPv4:
		to = &unix.SockaddrInet4{Addr: [4]byte(s.data[16:])}
		oob = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(s.index)})
	case socketIPv6:
		to = &unix.SockaddrInet6{Addr: [16]byte(s.data[24:])}
		oob = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(s.index)})
	}
	return unix.Sendmsg(s.fd(), s.data, oob, to, unix.MSG_DONTWAIT)
}
