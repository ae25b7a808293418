package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Of more backends than manyBackends only those that do not work are listed, and
// fewUnhealthy of them, unless all are asked for.
const (
	manyBackends = 20
	fewUnhealthy = 20
)

// soon is how long before its end a certificate is mentioned.
const soon = 21 * 24 * time.Hour

func (s *Status) serviceTable() *table {
	t := &table{columns: []column{
		{title: "SERVICE", least: 8, middle: true}, {title: "LISTEN", least: 12, middle: true}, {title: "MODE"}, {title: "STATE"},
		{title: "ACTIVE", right: true}, {title: "REQUESTS", right: true}, {title: "FAILED", right: true}, {title: "5XX", right: true, leave: 4},
		{title: "RETRIES", right: true, leave: 5}, {title: "P50", right: true, leave: 2}, {title: "P99", right: true, leave: 1}, {title: "IN", right: true, leave: 7},
		{title: "OUT", right: true, leave: 6}, {title: "BACKENDS"},
	}}
	for i := range s.Services {
		v := &s.Services[i]
		state := cell{text: "serves", how: good}
		if !v.Serving {
			state = cell{text: "down", how: bad}
		}
		failures := "-" // of HTTP only
		if n, ok := v.Traffic.Statuses["5xx"]; ok || len(v.Traffic.Statuses) > 0 {
			failures = count(n)
		}
		used, all := v.backends()
		backends := cell{text: fmt.Sprintf("%d of %d", used, all)}
		if used == 0 && all > 0 {
			backends.how = bad
		}
		t.rows = append(t.rows, row{
			cells: []cell{
				{text: v.Name}, {text: v.Listen}, {text: v.Mode}, state,
				{text: count(uint64(max(v.Traffic.Active, 0)))}, {text: count(v.Traffic.Accepted)}, {text: count(v.Traffic.Failed)}, {text: failures},
				{text: count(v.Traffic.Retries)}, {text: latency(v.Traffic.Latency.P50)}, {text: latency(v.Traffic.Latency.P99)}, {text: count(v.Traffic.Received)},
				{text: count(v.Traffic.Sent)}, backends,
			},
			below: s.serviceRemarks(v),
		})
	}
	return t
}

// serviceRemarks are the lines below a service.
func (s *Status) serviceRemarks(v *Service) (list []remark) {
	for _, text := range serviceProblems(v) {
		list = append(list, remark{"! ", text, bad})
	}
	if v.Maintenance {
		list = append(list, remark{"* ", "maintenance: requests get 503", odd})
	}
	if v.Serving && v.Problem != "" {
		list = append(list, remark{"* ", v.Problem, odd})
	}
	for _, p := range v.Pools {
		name := ""
		if p.Route != "" {
			name = "route " + p.Route + ": "
		}
		if p.Panic {
			list = append(list, remark{"* ", name + "too few backends work: all get connections (panic threshold)", odd})
		}
		if !p.Quorum && slices.ContainsFunc(p.Backends, func(b Backend) bool { return b.InUse }) {
			list = append(list, remark{"* ", name + "has no quorum", odd})
		}
		if p.Queued > 0 {
			list = append(list, remark{"* ", fmt.Sprintf("%s%d wait for a backend", name, p.Queued), odd})
		}
		if len(p.Unresolved) > 0 {
			list = append(list, remark{"* ", name + "not resolved: " + strings.Join(p.Unresolved, ", "), odd})
		}
	}
	for _, u := range v.TLSUntil {
		if left := u.End.Sub(s.Node.Time); left < soon {
			text := fmt.Sprintf("the certificate of %s in %s ends in %s", strings.Join(u.Names, ", "), u.File, span(left))
			if left <= 0 {
				text = fmt.Sprintf("the certificate of %s in %s ended %s ago", strings.Join(u.Names, ", "), u.File, span(-left))
			}
			list = append(list, remark{"* ", text, odd})
		}
	}
	return list
}

// drawBackends draws all pools as one table, each below its name.
func (s *Status) drawBackends(out *strings.Builder, all bool, l Layout) {
	total := 0
	for i := range s.Services {
		_, n := s.Services[i].backends()
		total += n
	}
	if total == 0 {
		return
	}
	t := &table{columns: []column{
		{title: "BACKEND", least: 23, middle: true}, {title: "STATE"}, {title: "SINCE"}, {title: "WEIGHT", right: true}, {title: "ACTIVE", right: true},
		{title: "PICKS", right: true}, {title: "FAILED", right: true}, {title: "IN", right: true, leave: 5}, {title: "OUT", right: true, leave: 4},
		{title: "CHECK", right: true, leave: 1}, {title: "CONNECT", right: true, leave: 2},
	}}
	for i := range s.Services {
		v := &s.Services[i]
		for j := range v.Pools {
			p := &v.Pools[j]
			if len(p.Backends) == 0 {
				continue
			}
			name := v.Name
			if p.Route != "" {
				name += ", route " + p.Route
			}
			t.rows = append(t.rows, row{head: name + ":"})
			t.rows = append(t.rows, s.poolRows(p, all || total <= manyBackends)...)
		}
	}
	out.WriteByte('\n')
	t.draw(out, l)
}

// poolRows are the backends of a pool, or those that do not work and a summary.
func (s *Status) poolRows(p *Pool, all bool) (rows []row) {
	healthy, more := 0, 0
	for i := range p.Backends {
		b := &p.Backends[i]
		switch well := b.State == "up" || b.State == "backup"; {
		case all, !well && len(rows) < fewUnhealthy:
			rows = append(rows, s.backendRow(b))
		case well:
			healthy++
		default:
			more++
		}
	}
	if more > 0 {
		rows = append(rows, row{below: []remark{{"", fmt.Sprintf("%d more that do not work: --all shows them", more), bad}}})
	}
	if healthy > 0 {
		rows = append(rows, row{below: []remark{{"", fmt.Sprintf("%d that work: --all shows them", healthy), faint}}})
	}
	return rows
}

func (s *Status) backendRow(b *Backend) row {
	weight := fmt.Sprint(b.Weight)
	if b.Weight != b.ConfiguredWeight {
		weight += fmt.Sprintf(" (%d)", b.ConfiguredWeight)
	}
	check := "-"
	switch {
	case b.CheckPaused:
		check = "paused"
	case b.Checked:
		check = latency(b.CheckLatency)
	}
	connect := "-"
	if b.Connects > 0 {
		connect = latency(b.ConnectTime / Seconds(b.Connects))
	}
	name := b.Name
	if b.Address != "" && b.Address != b.Name {
		name += " " + b.Address
	}
	// What clients send is IN, as of the service above: the backend gets it.
	r := row{cells: []cell{
		{text: "  " + name}, stateCell(b.State), {text: age(s.Node.Time, b.Since)}, {text: weight}, {text: count(uint64(max(b.Active, 0)))},
		{text: count(b.Picks)}, {text: count(b.Failures)}, {text: count(b.Sent)}, {text: count(b.Received)}, {text: check}, {text: connect},
	}}
	if b.Error != "" && b.State != "up" {
		r.below = []remark{{"  ! ", b.Error, bad}}
	}
	return r
}
