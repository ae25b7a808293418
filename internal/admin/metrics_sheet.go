package admin

import (
	"math"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/report"
)

// family is a metric of something, such as of a router. The value is taken from a T; none:
// there is no sample. A name that ends with _total is a counter's, any other a gauge's.
type family[T any] struct {
	name, help string
	value      func(T) float64
}

// none is the value that a family leaves out.
var none = math.NaN()

// sheet is an exposition under way.
//
// The format: https://prometheus.io/docs/instrumenting/exposition_formats/
type sheet struct {
	text   []byte
	labels []byte // of all objects, one after the other
}

// reset makes the sheet empty, and keeps its memory.
func (s *sheet) reset() { s.text, s.labels = s.text[:0], s.labels[:0] }

// labelled is something with its labels, as they stand in the text, without braces.
type labelled[T any] struct {
	of     T
	labels []byte
}

// label returns the labels of an object: names and values in turn, by name.
func (s *sheet) label(namesAndValues ...string) []byte {
	start := len(s.labels)
	for i := 0; i < len(namesAndValues); i += 2 {
		if i > 0 {
			s.labels = append(s.labels, ',')
		}
		s.labels = append(s.labels, namesAndValues[i]...)
		s.labels = append(s.labels, `="`...)
		s.labels = appendEscaped(s.labels, namesAndValues[i+1])
		s.labels = append(s.labels, '"')
	}
	return s.labels[start:len(s.labels):len(s.labels)]
}

// appendEscaped appends the value of a label. What is no UTF-8 would spoil the exposition.
func appendEscaped(text []byte, value string) []byte {
	if !strings.ContainsAny(value, "\\\"\n") {
		return append(text, strings.ToValidUTF8(value, "�")...)
	}
	return append(text, escaper.Replace(strings.ToValidUTF8(value, "�"))...)
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// add exposes the families of some objects. A family without any sample is left out.
func add[T any](s *sheet, families []family[T], objects []labelled[T]) {
	for i := range families {
		f := &families[i]
		head := false
		for _, o := range objects {
			v := f.value(o.of)
			if math.IsNaN(v) {
				continue
			}
			if !head {
				s.head(f.name, f.help, typeOf(f.name))
				head = true
			}
			s.sample(f.name, "", o.labels, v)
		}
	}
}

// typeOf is the type of a metric, as its name tells.
func typeOf(name string) string {
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// head begins a family.
func (s *sheet) head(name, help, kind string) {
	t := append(s.text, "# HELP "...)
	t = append(t, name...)
	t = append(t, ' ')
	t = append(t, help...)
	t = append(t, "\n# TYPE "...)
	t = append(t, name...)
	t = append(t, ' ')
	t = append(t, kind...)
	s.text = append(t, '\n')
}

// sample adds a line.
func (s *sheet) sample(name, suffix string, labels []byte, v float64) {
	t := append(s.text, name...)
	t = append(t, suffix...)
	if len(labels) > 0 {
		t = append(t, '{')
		t = append(t, labels...)
		t = append(t, '}')
	}
	t = append(t, ' ')
	s.text = append(appendValue(t, v), '\n')
}

// appendValue appends a number as shortly as it can be said.
func appendValue(t []byte, v float64) []byte {
	if n := int64(v); float64(n) == v && n > -1<<53 && n < 1<<53 {
		return strconv.AppendInt(t, n, 10) // most are such, and this is faster
	}
	return strconv.AppendFloat(t, v, 'g', -1, 64)
}

// histogram adds the lines of a histogram: how many durations were no longer than each
// bound, how many there were, and their sum.
func (s *sheet) histogram(name string, h report.Histogram, labels []byte) {
	count := uint64(0)
	line := func(n uint64, appendBound func([]byte) []byte) {
		t := append(s.text, name...)
		t = append(t, "_bucket{"...)
		t = append(t, labels...)
		t = append(t, `,le="`...)
		t = appendBound(t)
		t = append(t, `"} `...)
		s.text = append(strconv.AppendUint(t, n, 10), '\n')
	}
	for i, bound := range h.Bounds {
		count += h.Counts[i]
		line(count, func(t []byte) []byte { return appendValue(t, bound.Seconds()) })
	}
	total := h.Total()
	line(total, func(t []byte) []byte { return append(t, "+Inf"...) })
	s.sample(name, "_sum", labels, h.Sum.Seconds())
	s.sample(name, "_count", labels, float64(total))
}
