package report

import (
	"fmt"
	"strconv"
	"time"
)

// span prints a duration as a person says it, by its two largest units: 3m12s, 2d4h.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	default:
		return twoUnits(d, day, "d", time.Hour, "h")
	}
}

// twoUnits leaves the smaller unit out where it is 0.
func twoUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallName)
	}
	return text
}

// age is the span from a time until now. A time that is not known has none.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(now.Sub(t))
}

// latency prints a short time with two or three digits: 85us, 0.42ms, 12ms, 1.2s.
func latency(s Seconds) string {
	switch d := time.Duration(s); {
	case d <= 0:
		return "-"
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%dus", d/time.Microsecond)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2gms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	default:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
}

// count prints a number in at most five characters: 950, 1.2k, 48k, 3.4M. It never shows
// more than there are.
func count(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	unit := uint64(1)
	for _, name := range []string{"k", "M", "G", "T", "P", "E"} {
		unit *= 1000
		switch {
		case n/unit >= 1000:
			continue
		case n/unit >= 10:
			return fmt.Sprintf("%d%s", n/unit, name)
		}
		return fmt.Sprintf("%d.%d%s", n/unit, n%unit/(unit/10), name)
	}
	return strconv.FormatUint(n, 10) // not reached: a uint64 ends at 18E
}

// several prints a number with its noun.
func several(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
