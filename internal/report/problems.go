package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// problem is what needs a person, in words.
type problem struct {
	about string // the name of the part; empty: the node
	text  string
}

func (p problem) String() string {
	if p.about == "" {
		return p.text
	}
	return p.about + ": " + p.text
}

// FindProblems returns what needs a person, one sentence each; none: all is well. These
// are: a reload that failed; a router that does not run, has a fault, shares its
// addresses with another one, or has another problem with them; a check that a router
// tracks and that is down; a service that does not serve, whose access log
// loses lines, or of whose pools one has no backend that gets connections; a receiver of alarms that fails for long. Maintenance is planned, and so is what follows from it.
func (s *Status) FindProblems() []string {
	var list []string
	for _, p := range s.problems() {
		list = append(list, clean(p.String()))
	}
	return list
}

func (s *Status) problems() []problem {
	var list []problem
	if s.Node.ReloadError != "" {
		list = append(list, problem{"", "the last reload failed: " + s.Node.ReloadError})
	}
	for i := range s.Routers {
		for _, text := range s.routerProblems(&s.Routers[i]) {
			list = append(list, problem{s.Routers[i].Name, text})
		}
	}
	for i := range s.Checks {
		if text := s.checkProblem(&s.Checks[i]); text != "" {
			list = append(list, problem{s.Checks[i].Name, text})
		}
	}
	for i := range s.Services {
		for _, text := range serviceProblems(&s.Services[i]) {
			list = append(list, problem{s.Services[i].Name, text})
		}
	}
	for i := range s.Alarms {
		if text := s.receiverProblem(&s.Alarms[i]); text != "" {
			list = append(list, problem{s.Alarms[i].Name, text})
		}
	}
	return list
}

// maintenanceFault is how the fault of a node in maintenance begins.
const maintenanceFault = "maintenance"

// routerProblems names the worst first.
func (s *Status) routerProblems(r *Router) (list []string) {
	if r.NotRunning != "" {
		list = append(list, "does not run: "+r.NotRunning)
	}
	faults := slices.DeleteFunc(slices.Clone(r.Faults), func(fault string) bool {
		return s.Node.Maintenance != nil && strings.HasPrefix(fault, maintenanceFault)
	})
	if len(faults) > 0 && !r.Waiting {
		list = append(list, "fault: "+strings.Join(faults, ", "))
	}
	if text := s.split(r); text != "" {
		list = append(list, text)
	}
	if r.Problem != "" {
		list = append(list, "addresses: "+r.Problem)
	}
	return list
}

// split says that another router has the addresses as well, or is likely to.
func (s *Status) split(r *Router) string {
	if r.State != stateActive {
		return ""
	}
	text := ""
	if r.Rival != nil {
		text = fmt.Sprintf("split: %s is Active as well, priority %d", r.Rival.Address, r.Rival.Priority)
	}
	if r.Deaf != "" {
		if text == "" {
			text = "split: another router is Active as well"
		}
		return text + ", and does not hear this one: " + r.Deaf
	}
	if text != "" {
		return text
	}
	if f := r.Foreign; f != nil && s.now(r, f.Last) {
		return fmt.Sprintf("split: %s is likely to be Active as well: it advertises VRID %d for this router, whose VRID is %d", f.From, f.VRID, r.VRID)
	}
	for _, d := range r.Drops {
		if s.lately(r, d) && d.From != "" && d.Reason != "own" && d.Reason != "addresses" { // another pair takes nothing away
			return fmt.Sprintf("split: %s is likely to be Active as well: what it advertises is discarded: %s", d.From, dropText(d))
		}
	}
	return ""
}

// lately reports whether advertisements are discarded now.
func (s *Status) lately(r *Router, d Drop) bool { return d.Count > 0 && s.now(r, d.Last) }

// now reports whether what comes with advertisements comes still: within five intervals.
func (s *Status) now(r *Router, last time.Time) bool {
	return !last.IsZero() && s.Node.Time.Sub(last) < max(10*time.Second, 5*time.Duration(r.Interval))
}

// dropText says why advertisements are discarded.
func dropText(d Drop) string {
	if d.Text != "" {
		return d.Text
	}
	return d.Reason
}

// checkProblem is about checks that routers track. Nobody waits for one that is paused.
func (s *Status) checkProblem(c *Check) string {
	tracked := slices.ContainsFunc(s.Routers, func(r Router) bool {
		return slices.ContainsFunc(r.Tracks, func(t Track) bool { return t.Check == c.Name })
	})
	if c.State != stateDown || c.Paused || !tracked {
		return ""
	}
	if c.Error == "" {
		return "check is down"
	}
	return "check is down: " + c.Error
}

func serviceProblems(s *Service) (list []string) {
	if !s.Serving {
		text := "does not serve"
		if s.Problem != "" {
			text += ": " + s.Problem
		}
		list = append(list, text)
	}
	if s.LogProblem != "" {
		list = append(list, s.LogProblem)
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		if p.works() {
			continue
		}
		text := "no working backend"
		if p.Route != "" {
			text = "route " + p.Route + ": " + text
		}
		list = append(list, text+why(p))
	}
	return list
}

// works reports whether a pool has a backend that gets connections, and is not only tried
// because none is up (panic threshold). A pool without backends lacks none.
func (p *Pool) works() bool {
	return len(p.Backends)+len(p.Unresolved) == 0 || slices.ContainsFunc(p.Backends, func(b Backend) bool {
		return b.InUse && (!p.Panic || b.State == stateUp)
	})
}

// why no backend of a pool works: how many are in which state.
func why(p *Pool) string {
	var parts []string
	states := map[string]int{}
	for _, b := range p.Backends {
		if states[b.State]++; states[b.State] == 1 {
			parts = append(parts, b.State)
		}
	}
	if states["unresolved"] == 0 && len(p.Unresolved) > 0 {
		states["unresolved"] = len(p.Unresolved)
		parts = append(parts, "unresolved")
	}
	for i, state := range parts {
		parts[i] = fmt.Sprintf("%d %s", states[state], state)
	}
	if p.Panic {
		parts = append(parts, "all get connections all the same (panic threshold)")
	}
	return ": " + strings.Join(parts, ", ")
}

// Verdict is one line for monitoring: what is wrong, or that all is well.
func (s *Status) Verdict() string {
	problems := s.FindProblems()
	switch len(problems) {
	case 0:
		return "ok: " + s.summary()
	case 1:
		return "problem: " + problems[0]
	}
	return fmt.Sprintf("%d problems: %s", len(problems), strings.Join(problems, "; "))
}

// summary says in a few words what the node does.
func (s *Status) summary() string {
	var parts []string
	if s.Node.Maintenance != nil {
		parts = append(parts, "in maintenance")
	}
	active := 0
	for _, r := range s.Routers {
		if r.State == stateActive {
			active++
		}
	}
	if n := len(s.Routers); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s Active", active, several(n, "router")))
	}
	if n := len(s.Services); n > 0 {
		used, all := 0, 0
		for i := range s.Services {
			u, a := s.Services[i].backends()
			used, all = used+u, all+a
		}
		parts = append(parts, fmt.Sprintf("%s with %d of %s in use", several(n, "service"), used, several(all, "backend")))
	}
	if len(parts) == 0 {
		return "nothing is configured"
	}
	return strings.Join(parts, ", ")
}

// backends counts those of all pools, and how many of them get connections.
func (s *Service) backends() (used, all int) {
	for i := range s.Pools {
		for _, b := range s.Pools[i].Backends {
			all++
			if b.InUse {
				used++
			}
		}
		all += len(s.Pools[i].Unresolved)
	}
	return used, all
}

// States as the values have them.
const (
	stateActive     = "Active"
	stateBackup     = "Backup"
	stateInitialize = "Initialize"
	stateDown       = "down"
	stateUp         = "up"
)
