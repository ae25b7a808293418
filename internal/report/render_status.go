package report

import (
	"fmt"
	"strings"
	"time"
)

// RenderStatus draws a status for a person: the node, routers, checks, services and
// backends, with what is wrong in words below each, and the [Status.Verdict] at the end. all shows
// each backend and each peer; otherwise many are told in one line, but for those that do
// not work.
func RenderStatus(s *Status, all bool, l Layout) string {
	out := &strings.Builder{}
	s.drawNode(out, l)
	if len(s.Routers) > 0 {
		out.WriteByte('\n')
		s.routerTable(all).draw(out, l)
	}
	if len(s.Groups) > 0 {
		out.WriteByte('\n')
		s.groupTable().draw(out, l)
	}
	if len(s.Checks) > 0 {
		out.WriteByte('\n')
		s.checkTable().draw(out, l)
	}
	if len(s.Services) > 0 {
		out.WriteByte('\n')
		s.serviceTable().draw(out, l)
		s.drawBackends(out, all, l)
	}
	out.WriteByte('\n')
	how := good
	if len(s.problems()) > 0 {
		how = bad
	}
	verdict := s.Verdict() // on a screen one line is enough: all of it is above
	if l.Width > 0 {
		verdict = shorten(verdict, l.Width, false)
	}
	out.WriteString(l.paint(how, verdict) + "\n")
	return out.String()
}

// RenderTrouble draws a sentence about what is wrong.
func RenderTrouble(text string, l Layout) string {
	out := &strings.Builder{}
	remark{"! ", text, bad}.draw(out, l, "")
	return out.String()
}

// drawNode draws what is about the node as a whole.
func (s *Status) drawNode(out *strings.Builder, l Layout) {
	n := &s.Node
	line := fmt.Sprintf("havip %s, pid %d, up %s", n.Version, n.PID, age(n.Time, n.Started))
	if n.File != "" {
		line += ", " + n.File
	}
	if !n.Loaded.IsZero() && n.Loaded.Sub(n.Started) > time.Minute {
		line += ", read " + age(n.Time, n.Loaded) + " ago"
	}
	host := strings.Join(strings.Fields(clean(n.Host)), " ") // as wrap has it
	if l.Width > 0 {
		host = shorten(host, l.Width/3, false)
	}
	for i, text := range wrap(host+": ", clean(line), l.Width) {
		if i == 0 {
			text = l.paint(title, host) + strings.TrimPrefix(text, host)
		}
		out.WriteString(text + "\n")
	}
	for _, m := range s.nodeRemarks() {
		m.draw(out, l, "  ")
	}
}

// nodeRemarks are maintenance, a failed reload, what was changed at run time, and
// warnings of the configuration.
func (s *Status) nodeRemarks() (list []remark) {
	n := &s.Node
	if m := n.Maintenance; m != nil {
		text := "maintenance since " + age(n.Time, m.Since)
		if m.Reason != "" {
			text += ": " + m.Reason
		}
		if m.Lasting {
			text += " (survives a restart; 'havip maintenance off' ends it)"
		} else {
			text += " (could not be noted down: a restart ends it)"
		}
		list = append(list, remark{"* ", text, odd})
	}
	if n.ReloadError != "" {
		text := "the last reload failed: "
		if !n.ReloadFailed.IsZero() {
			text = "the reload " + age(n.Time, n.ReloadFailed) + " ago failed: "
		}
		list = append(list, remark{"! ", text + n.ReloadError, bad})
	}
	for _, c := range n.Changes {
		list = append(list, remark{"* ", "changed at run time: " + c.text() + ", " + age(n.Time, c.Since) + " ago", odd})
	}
	for _, w := range n.Warnings {
		list = append(list, remark{"* ", "warning: " + w, odd})
	}
	return list
}

// text says what was changed, and what the file has.
func (c RuntimeChange) text() string {
	switch {
	case c.Kind == "check":
		return "check " + c.Name + " is " + c.Value
	case c.Kind == "drain" && c.Value == "true":
		return c.Name + " drains, and in the file it does not"
	case c.Kind == "drain":
		return c.Name + " gets connections, and in the file it drains"
	}
	text := c.Kind + " of " + c.Name
	if c.Kind == "log" {
		text = "log level"
	}
	text += " is " + c.Value
	if c.File != "" {
		text += ", and in the file " + c.File
	}
	return text
}

func (s *Status) routerTable(all bool) *table {
	t := &table{columns: []column{
		{title: "ROUTER", least: 8, middle: true}, {title: "VRID", right: true}, {title: "STATE"}, {title: "SINCE"},
		{title: "PRIORITY"}, {title: "HOLDS", least: 18}, {title: "WHY", least: 16, below: true},
	}}
	for i := range s.Routers {
		r := &s.Routers[i]
		priority := fmt.Sprint(r.Priority)
		if r.Priority != r.Configured {
			priority += fmt.Sprintf(" (%d)", r.Configured)
		}
		holds := cell{text: "-"} // of a router that only elects
		if r.Held && len(r.Addresses) > 0 {
			holds = cell{list: r.AddressList()}
		} else if len(r.Addresses) > 0 {
			holds.text = "nothing"
		}
		t.rows = append(t.rows, row{
			cells: []cell{
				{text: r.Name}, {text: fmt.Sprint(r.VRID)}, s.routerState(r), {text: age(s.Node.Time, r.Since)},
				{text: priority}, holds, {text: r.why()},
			},
			below: s.routerRemarks(r, all),
		})
	}
	return t
}

// routerState is the word for the state; a router out of the election says so.
func (s *Status) routerState(r *Router) cell {
	switch {
	case r.NotRunning != "":
		return cell{text: "stopped", how: bad}
	case r.State == stateActive && s.split(r) != "":
		return cell{text: r.State, how: bad}
	case r.State == stateActive && r.HandingOver:
		return cell{text: "leaving", how: odd}
	case r.State == stateActive:
		return cell{text: r.State, how: good}
	case r.State == stateBackup:
		return cell{text: r.State}
	case s.Node.Maintenance != nil && len(s.routerProblems(r)) == 0:
		return cell{text: "away", how: odd}
	case r.Waiting:
		return cell{text: "waits", how: odd}
	case len(r.Faults) > 0:
		return cell{text: "FAULT", how: bad}
	}
	return cell{text: r.State, how: odd}
}

// why the router has its state.
func (r *Router) why() string {
	text := r.Cause
	switch {
	case r.Cause == causeFault && r.State == stateInitialize && len(r.Faults) > 0: // some of those at first may be over
		if text = strings.Join(r.Faults, ", "); !strings.HasPrefix(text, maintenanceFault) {
			text = r.Cause + ": " + text
		}
	case r.Reason != "":
		text += ": " + r.Reason
	case r.CausePeer != "":
		text += " (" + r.CausePeer + ")"
	}
	return text
}

// fewPeers are shown one by one.
const fewPeers = 4

// routerRemarks are the lines below a router.
func (s *Status) routerRemarks(r *Router, all bool) (list []remark) {
	for _, text := range s.routerProblems(r) {
		list = append(list, remark{"! ", text, bad})
	}
	if r.Waiting && len(r.Faults) > 0 {
		list = append(list, remark{"* ", "waits for: " + strings.Join(r.Faults, ", "), odd})
	}
	for _, d := range r.Drops {
		if s.lately(r, d) {
			list = append(list, remark{"* ", fmt.Sprintf("discarded %s of %s, the last %s ago: %s",
				several(int(d.Count), "advertisement"), orSomebody(d.From), age(s.Node.Time, d.Last), dropText(d)), odd})
		}
	}
	if f := r.Foreign; f != nil && r.State != stateActive && s.now(r, f.Last) {
		list = append(list, remark{"* ", fmt.Sprintf("%s advertises VRID %d, and is likely to be meant for this router, whose VRID is %d", f.From, f.VRID, r.VRID), odd})
	}
	if r.Conflicts > 0 {
		list = append(list, remark{"* ", fmt.Sprintf("another host has claimed an address of this router %s: 'havip events --kind conflict'", times(r.Conflicts)), odd})
	}
	return append(list, s.peerRemarks(r, all)...)
}

// peerRemarks are the routers that were heard.
func (s *Status) peerRemarks(r *Router, all bool) (list []remark) {
	if len(r.Peers) == 0 {
		if r.NotRunning != "" {
			return nil
		}
		text := "no other router heard"
		if len(r.Unicast) > 0 {
			text = "not heard: " + strings.Join(r.Unicast, ", ")
		}
		if r.State == stateActive {
			text += " (a Backup sends nothing)"
		}
		return []remark{{"", text, faint}}
	}
	for i, p := range r.Peers {
		if i == fewPeers && !all {
			text := fmt.Sprintf("and %d more: --all shows them", len(r.Peers)-i)
			return append(list, remark{"", text, faint})
		}
		priority := fmt.Sprintf("priority %d", p.Priority)
		if p.Priority == 0 {
			priority = "which left"
		}
		list = append(list, remark{"", fmt.Sprintf("heard %s, %s, %s ago", p.Address, priority, age(s.Node.Time, p.LastHeard)), faint})
	}
	return list
}

func orSomebody(from string) string {
	if from == "" {
		return "somebody"
	}
	return from
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

func (s *Status) groupTable() *table {
	t := &table{columns: []column{{title: "GROUP", least: 8, middle: true}, {title: "STATE"}, {title: "ROUTERS", least: 16}}}
	for _, g := range s.Groups {
		t.rows = append(t.rows, row{cells: []cell{{text: g.Name}, {text: orDash(g.State)}, {list: g.Routers}}})
	}
	return t
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (s *Status) checkTable() *table {
	t := &table{columns: []column{
		{title: "CHECK", least: 8, middle: true}, {title: "STATE"}, {title: "SINCE"}, {title: "LATENCY", right: true},
		{title: "FAILED", right: true, leave: 1}, {title: "TARGET", least: 16, leave: 2, middle: true}, {title: "LAST ERROR", least: 16, below: true},
	}}
	for i := range s.Checks {
		c := &s.Checks[i]
		state := stateCell(c.State)
		if c.Paused {
			state = cell{text: "paused", how: odd}
		}
		r := row{cells: []cell{
			{text: c.Name}, state, {text: age(s.Node.Time, c.Since)}, {text: latency(c.Latency)},
			{text: count(c.Failed)}, {text: orDash(c.Target)}, {text: orDash(c.Error)},
		}}
		if text := s.checkProblem(c); text != "" {
			r.below = []remark{{"! ", text, bad}}
			r.cells[len(r.cells)-1].text = "-"
		}
		t.rows = append(t.rows, r)
	}
	return t
}

// stateCell shows the state of a check or a backend.
func stateCell(state string) cell {
	switch state {
	case "up":
		return cell{text: state, how: good}
	case stateDown, "ejected":
		return cell{text: state, how: bad}
	}
	return cell{text: orDash(state), how: odd}
}
