package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// printer writes events and summaries, as text or as one JSON object a line.
type printer struct {
	out   io.Writer
	json  bool
	quiet bool   // no advertisements
	only  string // the one interface, which need not be named
	// relative: times count from start, as in a file.
	relative bool
	start    time.Time
}

// event writes one event.
func (p *printer) event(e *Event) error {
	if p.quiet && (e.Kind == KindAdvertisement || e.Kind == KindOther) {
		return nil
	}
	if p.json {
		return p.object(e)
	}
	_, err := io.WriteString(p.out, p.line(e))
	return err
}

// object writes v as a line of JSON.
func (p *printer) object(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = p.out.Write(append(b, '\n'))
	}
	return err
}

// marks begin the lines that are not about an advertisement.
var marks = map[Kind]string{KindOther: "?", KindState: "*", KindProblem: "!", KindNote: "-", KindOver: "="}

// line is the text of an event.
func (p *printer) line(e *Event) string {
	var b strings.Builder
	b.WriteString(p.clock(e.Time) + "  ")
	if e.Link != p.only {
		fmt.Fprintf(&b, "%-9s ", e.Link)
	}
	if e.Advertisement != nil {
		b.WriteString(e.Advertisement.text(e.VRID) + "\n")
		return b.String()
	}
	b.WriteString(marks[e.Kind] + " " + e.subject())
	if e.Kind == KindOver {
		b.WriteString("over: ")
	}
	b.WriteString(e.Text + "\n")
	if e.Next != "" {
		fmt.Fprintf(&b, "%*s    look at: %s\n", len(p.clock(e.Time)), "", e.Next)
	}
	return b.String()
}

// subject names the virtual router of an event, if it is about one.
func (e *Event) subject() string {
	if e.VRID == 0 {
		return ""
	}
	return virtualRouter(e.Family, e.VRID) + ": "
}

func virtualRouter(family string, vrid uint8) string {
	if family == "IPv6" {
		return fmt.Sprintf("VRID %d/IPv6", vrid)
	}
	return fmt.Sprintf("VRID %d", vrid)
}

// clock is the time of a line.
func (p *printer) clock(t time.Time) string {
	if p.relative {
		return fmt.Sprintf("%13.6f", t.Sub(p.start).Seconds())
	}
	return t.Format("15:04:05.000000")
}

// text is the line of an advertisement behind its time.
func (a *Advertisement) text(vrid uint8) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%15v > %-15v VRID %-3d v%d prio %-3d every %-5s", a.Source, a.Destination, vrid, a.Version, a.Priority, short(time.Duration(a.Interval)))
	auth := a.Auth
	if auth == "none" {
		auth = "-"
	}
	fmt.Fprintf(&b, " %-6s  %s", auth, join(a.Addresses))
	if a.Priority == 0 {
		b.WriteString("  leaves")
	}
	if a.Checksum != "" && a.Checksum != "pseudo-header" {
		fmt.Fprintf(&b, "  checksum %s", a.Checksum)
	}
	if a.Gap != 0 {
		fmt.Fprintf(&b, "  +%s", short(time.Duration(a.Gap)))
	}
	if a.Error != "" {
		b.WriteString("  DISCARDED: " + a.Error)
	}
	return b.String()
}

// join lists addresses, of which a line has no room for many.
func join(addrs []netip.Addr) string { return strings.ReplaceAll(list(addrs), " and ", ", and ") }

// summary writes what a Watcher knows.
func (p *printer) summary(s Summary) error {
	if p.json {
		return p.object(struct {
			Kind string `json:"kind"`
			Summary
		}{"summary", s})
	}
	fmt.Fprintf(p.out, "\n%d %s in %s\n", s.Advertisements, plural(s.Advertisements, "advertisement"), short(s.To.Sub(s.From)))
	links := slices.ContainsFunc(s.Routers, func(r Router) bool { return r.Link != p.only })
	t := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	if len(s.Routers) > 0 {
		fmt.Fprintln(t, strings.Join(columns(links, "LINK", "VRID", "ROUTER", "STATE", "SINCE", "VERSION", "PRIORITY", "INTERVAL", "SEEN", "P99", "LONGEST", "HEARD", "LOST", "AUTH", "ADDRESSES"), "\t"))
	}
	for i := range s.Routers {
		fmt.Fprintln(t, strings.Join(columns(links, p.row(&s.Routers[i])...), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range s.Findings {
		p.finding(&f)
	}
	_, err := io.WriteString(p.out, p.verdict(s.Findings))
	return err
}

// columns leaves the link out unless there are several.
func columns(links bool, all ...string) []string {
	if links {
		return all
	}
	return all[1:]
}

// row is a line of the table of routers.
func (p *printer) row(r *Router) []string {
	seen, p99, longest := "-", "-", "-"
	if r.Mean != 0 {
		seen = fmt.Sprintf("%s ± %s", short(time.Duration(r.Mean)), short(time.Duration(r.Deviation)))
		p99, longest = short(time.Duration(r.Percentile99)), short(time.Duration(r.Longest))
	}
	return []string{
		r.Link, strings.TrimPrefix(virtualRouter(r.Family, r.VRID), "VRID "), r.Source.String(), r.State, strings.TrimSpace(p.clock(r.Since)),
		fmt.Sprint(r.Version), fmt.Sprint(r.Priority), short(time.Duration(r.Interval)), seen, p99, longest, fmt.Sprint(r.Count), fmt.Sprint(r.Lost),
		r.Auth, join(r.Addresses),
	}
}

// finding writes a line of the list of problems and notes.
func (p *printer) finding(f *Finding) {
	kind := "note"
	if f.Problem {
		kind = "problem"
	}
	if f.Over {
		kind += ", over"
	}
	if f.Link != p.only {
		kind += " on " + f.Link
	}
	if f.VRID != 0 {
		kind += ", " + virtualRouter(f.Family, f.VRID)
	}
	fmt.Fprintf(p.out, "%s: %s\n", kind, f.Text)
}

// verdict is the last line.
func (p *printer) verdict(list []Finding) string {
	var problems, over int
	for _, f := range list {
		if f.Problem {
			problems++
			if f.Over {
				over++
			}
		}
	}
	switch {
	case problems == 0:
		return "no problems\n"
	case over > 0:
		return fmt.Sprintf("%d %s, of which %d over\n", problems, plural(problems, "problem"), over)
	}
	return fmt.Sprintf("%d %s\n", problems, plural(problems, "problem"))
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
