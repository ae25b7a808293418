package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Explanation says why a node has an address or not.
type Explanation struct {
	Address string `json:"address"`
	Router  string `json:"router"` // that has it in its list
	// Held: it is on this node's interface.
	Held bool `json:"held"`
	// Sentences: the answer first, and its cause; then what supports it.
	Sentences []string `json:"sentences"`
	// Next is what to look at, or to do, the likeliest first.
	Next []string `json:"next,omitempty"`
}

// Explain says why the node of a status has an address or not. events are the latest ones,
// the oldest first. The error is ErrUnknown for an address that no router has in its list.
//
// The first sentence is the answer, and the second one its cause. Whoever asks is likely
// to do so because the address does not answer: what is wrong with it comes before what
// is in order.
func Explain(s *Status, events []Event, addr netip.Addr) (Explanation, error) {
	routers := routersWith(s, addr)
	if len(routers) == 0 {
		return Explanation{}, unknownAddress(s, addr)
	}
	r := routers[0]
	x := &explainer{
		s: s, r: r, addr: addr.String(), now: s.Node.Time, host: s.Node.Host,
		events: slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Router != r.Name }),
	}
	if x.host == "" {
		x.host = "This host"
	}
	x.out = Explanation{Address: x.addr, Router: r.Name, Held: r.Held}
	x.explain()
	for _, o := range routers[1:] {
		x.say("Router %s has the address in its list as well, and is %s: one address belongs to one router.", o.Name, o.State)
		x.next("take %s out of the list of %s or of %s", x.addr, r.Name, o.Name)
	}
	x.out.Next = slices.DeleteFunc(x.out.Next, func(text string) bool { // another one says more
		return slices.ContainsFunc(x.out.Next, func(o string) bool { return o != text && strings.HasPrefix(o, text) })
	})
	for i, text := range x.out.Sentences {
		x.out.Sentences[i] = clean(text)
	}
	for i, text := range x.out.Next {
		x.out.Next[i] = clean(text)
	}
	return x.out, nil
}

// routersWith are the routers with an address in their lists, one that has it first.
func routersWith(s *Status, addr netip.Addr) (list []*Router) {
	for i := range s.Routers {
		r := &s.Routers[i]
		if !slices.ContainsFunc(r.Addresses, func(a Address) bool {
			p, err := netip.ParsePrefix(a.Address)
			return err == nil && p.Addr() == addr
		}) {
			continue
		}
		if r.Held && r.State == stateActive {
			list = slices.Insert(list, 0, r)
		} else {
			list = append(list, r)
		}
	}
	return list
}

// unknownAddress says which addresses there are instead.
func unknownAddress(s *Status, addr netip.Addr) error {
	var all []string
	for _, r := range s.Routers {
		for _, a := range r.Addresses {
			address, _, _ := strings.Cut(a.Address, "/")
			all = append(all, address)
		}
	}
	file := "the configuration"
	if s.Node.File != "" {
		file = s.Node.File
	}
	return unknownError(fmt.Sprintf("no router has the address %v: %s: add it to the addresses of a router in %s, and reload", addr, listed(all), file))
}

// explainer makes an Explanation of one router.
type explainer struct {
	s      *Status
	events []Event // of the router, the oldest first
	r      *Router
	addr   string
	now    time.Time
	host   string
	out    Explanation
}

func (x *explainer) say(format string, args ...any) {
	x.out.Sentences = append(x.out.Sentences, fmt.Sprintf(format, args...))
}

// next adds something to do, once.
func (x *explainer) next(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(x.out.Next, text) {
		x.out.Next = append(x.out.Next, text)
	}
}

// explain goes by what the router does.
func (x *explainer) explain() {
	switch {
	case x.r.Held && (x.r.NotRunning != "" || x.r.State != stateActive):
		x.explainLeftBehind()
	case x.r.NotRunning != "":
		x.explainNotRunning()
	case x.r.State == stateActive:
		x.explainActive()
	case x.r.State == stateBackup:
		x.explainBackup()
	default:
		x.explainFaults()
	}
}

// explainNotRunning is about a router that takes no part: most likely a second program
// has the virtual router.
func (x *explainer) explainNotRunning() {
	r, why := x.r, plainError(x.r.NotRunning, x.r)
	x.say("%s does not serve %s with this process: its router %s does not run, and is tried again all the time.", x.host, x.addr, r.Name)
	if _, by, ok := strings.Cut(why, "is taken by "); ok {
		x.say("VRID %d on %s is in use by %s: a second daemon was started on this host, or this one was.", r.VRID, r.Interface, by)
		if pid, ok := processOf(by); ok {
			x.next("ps -fp %s shows what that process is; stop the one of the two that should not run", pid)
		}
		x.next("systemctl status havip keepalived; ask the other one with its own socket: havip explain --socket PATH %s", x.addr)
		return
	}
	x.say("The reason is: %s.", why)
	x.next("havip validate -c %s checks the file against this machine", x.file())
}

// leaveTime is the longest that addresses take to come or go, unless that fails.
const leaveTime = 5 * time.Second

// explainLeftBehind is about an address that is there although the router should not have
// it: for the moment until it is removed, or as that fails.
func (x *explainer) explainLeftBehind() {
	r, state := x.r, "is "+x.r.State
	if r.NotRunning != "" {
		state = "is not running"
	}
	x.say("%s still has %s on %s, although its router %s %s%s.", x.host, x.addr, r.Interface, r.Name, state, x.since(r.Since))
	switch {
	case r.Problem != "":
		x.say("The reason is: %s.", plainError(r.Problem, r))
	case x.now.Sub(r.Since) < leaveTime:
		x.say("It is about to be removed.")
	default:
		x.say("It should have been removed by now.")
		x.next("havip events --kind addresses says what went wrong")
	}
	x.next("ip addr show %s; the kernel's log: journalctl -k", r.Interface)
	if r.NotRunning != "" {
		x.say("The router does not run, and is tried again all the time: %s.", plainError(r.NotRunning, r))
		return
	}
	for _, fault := range r.Faults {
		x.explainFault(fault)
	}
	if a := x.activePeer(); a != nil {
		x.say("%s has it as well: Active with priority %d, heard %s.", a.Address, a.Priority, x.ago(a.LastHeard))
	}
	x.next("%s", x.holders(x.addr))
}

// processOf finds the number in "process 4711 (...)".
func processOf(by string) (pid string, ok bool) {
	_, rest, ok := strings.Cut(by, "process ")
	pid, _, _ = strings.Cut(rest, " ")
	return pid, ok && pid != "" && strings.Trim(pid, "0123456789") == ""
}

func (x *explainer) file() string {
	if x.s.Node.File == "" {
		return "/etc/havip/havip.yaml"
	}
	return x.s.Node.File
}

// logOf is a thing to do on another host: what it says of the time in question.
func (x *explainer) logOf(peer string, t time.Time) {
	x.next("on %s: havip explain %s, and its log of that moment: journalctl -u havip --since '%s'", peer, x.addr,
		t.Add(-time.Minute).Format("2006-01-02 15:04:05"))
}
