package report

import (
	"fmt"
	"strings"
)

// RenderChange prints what a reload changes, part by part and key by key, and at the end
// what that costs in one line.
func RenderChange(c Change, l Layout) string {
	out := &strings.Builder{}
	moves := 0
	for _, p := range c.Parts {
		if p.Moves {
			moves++
		}
		p.draw(out, l)
	}
	for _, d := range c.Dropped {
		remark{"* ", "no longer changed at run time: " + d.text(), odd}.draw(out, l, "")
	}
	for _, w := range c.Warnings {
		remark{"* ", "warning: " + w, odd}.draw(out, l, "")
	}
	remark{"", c.summary(moves), title}.draw(out, l, "")
	return out.String()
}

// draw prints a part as a diff does: what is new with +, what ends with -, what changes
// with ~, and with ! if an address moves.
func (p PartChange) draw(out *strings.Builder, l Layout) {
	mark, how := "~ ", plain
	switch {
	case p.Moves:
		mark, how = "! ", bad
	case strings.HasPrefix(p.Fate, "is new"):
		mark, how = "+ ", good
	case strings.HasPrefix(p.Fate, "ends"):
		mark, how = "- ", odd
	}
	text := strings.TrimSpace(p.Kind+" "+p.Name) + ": " + p.Fate
	if p.Cost != "" {
		text += ": " + p.Cost
	}
	remark{mark, text, how}.draw(out, l, "")
	for _, k := range p.Keys {
		text, how := k.Key+": "+orNone(k.From)+" -> "+orNone(k.To), plain
		switch {
		case k.Moves && p.Moves:
			text, how = text+"  (this moves it)", bad
		case k.Moves:
			text += "  (so it starts anew)"
		}
		remark{"", text, how}.draw(out, l, "    ")
	}
}

// orNone stands for the value of a key that a file does not have.
func orNone(value string) string {
	if value == "" {
		return "(none)"
	}
	return value
}

func (c Change) summary(moves int) string {
	kept := several(c.Kept, "part") + " " + stay(c.Kept) + " as " + they(c.Kept)
	if len(c.Parts) == 0 {
		return "nothing changes: " + kept
	}
	changed := "changed " + several(len(c.Parts), "part")
	if c.DryRun {
		changed = "would change " + several(len(c.Parts), "part")
	}
	cost := "no address moves"
	if moves > 0 {
		cost = fmt.Sprintf("the addresses of %s move", several(moves, "router"))
		if moves == 1 {
			cost = "the addresses of one router move"
		}
	}
	return changed + ", " + kept + "; " + cost
}

func stay(n int) string {
	if n == 1 {
		return "stays"
	}
	return "stay"
}

func they(n int) string {
	if n == 1 {
		return "it is"
	}
	return "they are"
}
