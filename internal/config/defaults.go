package config

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/havip/havip/internal/words"
)

// WriteDefaults writes a configuration with every key, its default or an
// example, and what it means. It is itself valid.
func WriteDefaults(w io.Writer) error {
	out := bufio.NewWriter(w)
	out.WriteString(`# Every key of a havip configuration. Values are the defaults, or examples where
# a key is required; what is in a comment may be left out: it has no default, or
# not every mode of a service has it.
# Durations need a unit: ms, s, m or h.
`)
	for _, k := range new(Config).keys() {
		for _, l := range k.document(true) {
			if l.doc != "" {
				l.text = fmt.Sprintf("%-40s # %s", l.text, l.doc)
			}
			out.WriteString(l.text + "\n")
		}
	}
	return out.Flush()
}

// line is one line of WriteDefaults.
type line struct{ text, doc string }

// document returns the lines of a key, of the top level or of a mapping.
func (k key) document(top bool) []line {
	want := k.value.want
	if to := k.value.to; len(to) > 0 && to[0].home != nil {
		if want == "" && to[0].field().Kind() != reflect.String {
			want = strings.TrimPrefix(strings.TrimPrefix(to[0].bounds(), "at least 0s"), "at least 0") // which goes without saying
		}
		if k.setting {
			k.preset = to[0].sample()
		}
	}
	if k.modes != nil {
		k.doc = "mode " + words.Choice(k.modes) + ": " + k.doc
	}
	doc := strings.Trim(want+"; "+k.doc, "; ")
	switch plain := k.value.sections() == nil || k.value.asAbove; {
	case k.required && plain:
		return []line{{k.name + ": " + k.example, "required: " + doc}}
	case k.preset != "" && plain && k.modes == nil:
		return []line{{k.name + ": " + k.preset, doc}}
	case plain || k.example != "" && !k.required:
		return []line{{"# " + k.name + ": " + cmp.Or(k.example, k.preset), doc}}
	}
	lines := k.block()
	if !k.required && (k.preset == "" || k.modes != nil) && !top {
		for i := range lines {
			lines[i].text = "# " + lines[i].text
		}
	}
	return lines
}

// block returns the lines of a key whose value is made of mappings. Where a type
// selects one of several the block is repeated for each.
func (k key) block() []line {
	var lines []line
	for i, s := range k.value.sections() {
		first, rest := "  ", "  "
		switch {
		case k.value.shape == single && s.doc != "":
			lines = append(lines, line{k.name + ":", k.doc + "; this type: " + s.doc})
		case i == 0 || k.value.shape == single:
			lines = append(lines, line{k.name + ":", k.doc})
		}
		switch k.value.shape {
		case listed:
			first, rest = "  - ", "    "
		case named:
			first, rest = "    ", "    "
			// The last word of the label serves as an example of a name.
			lines = append(lines, line{"  " + s.label[strings.LastIndexByte(s.label, ' ')+1:] + ":", s.doc})
		}
		for _, sub := range s.keys {
			for _, l := range sub.document(false) {
				lines = append(lines, line{first + l.text, l.doc})
				first = rest
			}
		}
	}
	return lines
}
