package report

import (
	"strings"
)

// RenderEvent prints an event as one line: when, how bad, of which kind, what it is
// about, what happened and why. Nothing is cut: a line may be longer than the screen.
func RenderEvent(e Event, l Layout) string {
	out := &strings.Builder{}
	how := plain
	switch e.Level {
	case "warn":
		how = odd
	case "error":
		how = bad
	}
	out.WriteString(l.clock(e.Time) + " ")
	out.WriteString(l.paint(how, pad(clean(e.Level), 5)) + " " + pad(clean(e.Kind), 11) + " ")
	if about := e.about(); about != "" {
		out.WriteString(l.paint(title, clean(about)) + ": ")
	}
	out.WriteString(clean(e.what()))
	if e.Cause != "" {
		out.WriteString(": " + clean(e.Cause))
	}
	for _, a := range e.rest() {
		out.WriteString(l.paint(faint, " "+clean(a.Key)+"="+quoted(clean(a.Value))))
	}
	return out.String()
}

// about are the parts that an event is about.
func (e Event) about() string {
	var parts []string
	for _, part := range []string{e.Router, e.Group, e.Service, e.Check, e.Backend} {
		// The check and the backend of a service begin with its name.
		if part == "" || len(parts) > 0 && part == parts[len(parts)-1] {
			continue
		}
		if n := len(parts); n > 0 && strings.HasPrefix(part, parts[n-1]+"/") {
			parts[n-1] = part
			continue
		}
		if n := len(parts); n > 0 && strings.HasSuffix(parts[n-1], "/"+part) {
			continue
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

// attributeWhat says what somebody has asked for.
const attributeWhat = "what"

// what happened: a change of state says which, and a command what was asked for.
func (e Event) what() string {
	if what := e.Attribute(attributeWhat); e.Kind == KindControl && what != "" {
		return e.Message + ": " + what
	}
	from, to := e.Attribute("from"), e.Attribute("to")
	if e.Kind == KindTransition && to != "" {
		if from == "" || from == to {
			return to
		}
		return from + " -> " + to
	}
	return e.Message
}

// rest are the attributes that what does not tell.
func (e Event) rest() (list []Attribute) {
	for _, a := range e.Attributes {
		if e.Kind == KindTransition && (a.Key == "from" || a.Key == "to") || e.Kind == KindControl && a.Key == attributeWhat {
			continue
		}
		list = append(list, a)
	}
	return list
}

// quoted puts quotation marks around text that has blanks.
func quoted(text string) string {
	if strings.ContainsAny(text, " \"=") || text == "" {
		return `"` + strings.ReplaceAll(text, `"`, `'`) + `"`
	}
	return text
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-columns(text)))
}

// RenderExplanation prints the sentences, each from the beginning of a line, and then
// what to look at next.
func RenderExplanation(x Explanation, l Layout) string {
	out := &strings.Builder{}
	for i, s := range x.Sentences {
		how := plain
		if i == 0 {
			how = title
		}
		remark{"", s, how}.draw(out, l, "")
	}
	if len(x.Next) > 0 {
		out.WriteString("\nlook at next:\n")
		for _, s := range x.Next {
			remark{"- ", s, plain}.draw(out, l, "  ")
		}
	}
	return out.String()
}
