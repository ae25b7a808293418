package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// lasting prints a duration as a sentence has it: 0.4 s, 12 s, 3 min 12 s, 2 d 4 h.
func lasting(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(large time.Duration, largeName string, small time.Duration, smallName string) string {
		text := fmt.Sprintf("%d %s", d/large, largeName)
		if rest := d % large / small; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, smallName)
		}
		return text
	}
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Truncate(100*time.Millisecond).Seconds()), ".0") + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(time.Minute, "min", time.Second, "s")
	case d < day:
		return two(time.Hour, "h", time.Minute, "min")
	}
	return two(day, "d", time.Hour, "h")
}

// at prints a time, with its day if that is another one.
func (x *explainer) at(t time.Time) string {
	if t.Format(time.DateOnly) != x.now.Format(time.DateOnly) {
		return t.Format("15:04:05 on 2 Jan")
	}
	return t.Format("15:04:05")
}

// since prints for how long something lasts; empty if that is not known.
func (x *explainer) since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if x.now.Sub(t) < time.Second {
		return " (since " + x.at(t) + ")"
	}
	return fmt.Sprintf(" (for %s, since %s)", lasting(x.now.Sub(t)), x.at(t))
}

// ago prints the age of an event.
func (x *explainer) ago(t time.Time) string {
	if d := x.now.Sub(t); d >= 100*time.Millisecond {
		return lasting(d) + " ago"
	}
	return "just now"
}

// recent reports whether something that comes with each advertisement goes on.
func (x *explainer) recent(t time.Time) bool {
	return !t.IsZero() && x.now.Sub(t) < max(10*time.Second, 5*time.Duration(x.r.Interval))
}

// filter is what makes tcpdump show the router's advertisements, and protocol the number
// that a firewall has to accept.
func (x *explainer) filter() string {
	words := "proto 112"
	if x.r.Auth == "ah" {
		words = "proto 51"
	}
	if x.r.IPv6 {
		words = "ip6 " + words
	}
	return words
}

func (x *explainer) protocol() string {
	if x.r.Auth == "ah" {
		return "IP protocol 51 (AH)"
	}
	return "IP protocol 112 (VRRP)"
}

// holders is what shows whether two hosts have an address.
func (x *explainer) holders(address string) string {
	command := fmt.Sprintf("arping -I %s %s", x.r.Interface, address)
	if strings.Contains(address, ":") {
		command = fmt.Sprintf("ndisc6 %s %s", address, x.r.Interface)
	}
	return command + ": two hardware addresses in the answers are two holders"
}

// peers are the configured ones but for this host: all nodes may have the same list.
func (x *explainer) peers() []string {
	return slices.DeleteFunc(slices.Clone(x.r.Unicast), func(p string) bool { return p == x.r.Source })
}

// self is what others know this host by.
func (x *explainer) self() string {
	if x.r.Source == "" {
		return "this host's address"
	}
	return x.r.Source
}

// plainError takes off an error what the reader knows: the package, the router and the
// interface.
func plainError(text string, r *Router) string {
	for _, prefix := range []string{"vrrp: ", "vip: ", "failover: ", "healthcheck: ", "lb: ", r.Name + ": ", "interface " + r.Interface + ": "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// joined prints a list as a sentence has it.
func joined(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
