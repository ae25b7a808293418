package monitor

import (
	"net/netip"
	"time"
)

// Summary is what a [Watcher] knows at one time.
type Summary struct {
	From           time.Time `json:"from"`
	To             time.Time `json:"to"`
	Advertisements int       `json:"advertisements"`
	Routers        []Router  `json:"routers"`
	Findings       []Finding `json:"findings"`
}

// Router is one sender of a virtual router's advertisements.
type Router struct {
	Link      string       `json:"link,omitempty"`
	Family    string       `json:"family"`
	VRID      uint8        `json:"vrid"`
	Source    netip.Addr   `json:"source"`
	MAC       hardware     `json:"mac,omitzero"`
	State     string       `json:"state"` // "Active", "left" or "silent"
	Since     time.Time    `json:"since"` // or when it was last heard
	Version   uint8        `json:"version"`
	Priority  uint8        `json:"priority"`
	Interval  Seconds      `json:"interval_seconds"`
	Auth      string       `json:"auth"`
	Addresses []netip.Addr `json:"addresses"`
	Count     int          `json:"advertisements"`
	// The gaps between advertisements to one destination that are about as long as the
	// interval: their mean, their standard deviation, and what 99 % do not exceed.
	Mean         Seconds `json:"mean_seconds"`
	Deviation    Seconds `json:"deviation_seconds"`
	Percentile99 Seconds `json:"p99_seconds"`
	// Longest is the longest of all gaps, but for pauses after which a Backup takes over.
	Longest Seconds `json:"longest_seconds"`
	Lost    int     `json:"lost"` // advertisements, guessed from the gaps
}

// Summary returns what is known now.
func (w *Watcher) Summary() Summary {
	out := Summary{From: w.start, To: w.now, Advertisements: w.heard, Findings: w.Findings()}
	for _, g := range w.sorted() {
		for _, s := range g.senders {
			out.Routers = append(out.Routers, w.router(g, s))
		}
	}
	return out
}

func (w *Watcher) router(g *group, s *sender) Router {
	r := Router{
		Link: g.link, Family: g.family(), VRID: g.vrid, Source: s.addr, MAC: s.mac, State: "silent", Since: s.last, Version: s.version,
		Priority: s.priority, Interval: Seconds(s.interval), Auth: w.authWord(g, &s.params), Addresses: s.addresses, Count: s.count,
	}
	switch {
	case s.left:
		r.State = "left"
	case w.now.Before(s.wait()) && (s == g.active || s.alive(w.now)):
		r.State, r.Since = "Active", s.since
	}
	busiest := &pace{}
	for _, p := range s.paths {
		if p.all > busiest.all {
			busiest = p
		}
		r.Lost = max(r.Lost, p.lost)
	}
	r.Mean, r.Deviation = Seconds(busiest.average()), Seconds(busiest.deviation())
	r.Percentile99, r.Longest = Seconds(busiest.percentile99()), Seconds(busiest.longest)
	return r
}
