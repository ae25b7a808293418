package daemon

import (
	"maps"
	"slices"
)

// fate is what a reload makes of one part: of a router, a check, a group, a
// notifier, a service, the backends of a route, or a backend's monitor.
type fate int

const (
	keep    fate = iota // nothing differs, and nothing is touched
	update              // the part goes on, with its next configuration
	replace             // a new part takes the place of the old part
	add                 // there was no such part
	remove              // there is no next configuration
)

// String completes a sentence of the log that begins with the part.
func (f fate) String() string {
	return [...]string{"stays as it is", "changes in place", "starts anew", "is new", "ends"}[f]
}

// keepIf returns keep if the next configuration of a part is the same, and otherwise what
// another configuration means for the part.
func keepIf(same bool, otherwise fate) fate {
	if same {
		return keep
	}
	return otherwise
}

// step is the fate of one part P with a configuration C.
type step[P, C any] struct {
	key  string
	fate fate
	old  P // the part of before; zero for add
	cfg  C // the next configuration; zero for remove
}

// diff compares the parts that run, by key, with the configurations that are
// wanted next. The steps have the order of next, and then come the parts to
// remove, in the order of their keys. Of several configurations with the same key
// the first counts. judge returns keep, update or replace.
func diff[P, C any](parts map[string]P, next []C, key func(C) string, judge func(old P, next C) fate) []step[P, C] {
	var steps []step[P, C]
	wanted := map[string]bool{}
	for _, cfg := range next {
		k := key(cfg)
		if wanted[k] {
			continue
		}
		wanted[k] = true
		s := step[P, C]{key: k, fate: add, cfg: cfg}
		if old, ok := parts[k]; ok {
			s.old, s.fate = old, judge(old, cfg)
		}
		steps = append(steps, s)
	}
	for _, k := range slices.Sorted(maps.Keys(parts)) {
		if !wanted[k] {
			steps = append(steps, step[P, C]{key: k, fate: remove, old: parts[k]})
		}
	}
	return steps
}

// ends reports whether the step ends the old part.
func (s step[P, C]) ends() bool { return s.fate == replace || s.fate == remove }

// begins reports whether the step needs a new part.
func (s step[P, C]) begins() bool { return s.fate == replace || s.fate == add }

// carryOut makes the steps in their order, and returns the parts that run then. end is called
// before begin where a part takes the place of another. goOn may be nil where no part is updated.
func carryOut[P, C any](steps []step[P, C], begin func(C) P, goOn func(P, C), end func(P)) map[string]P {
	parts := map[string]P{}
	for _, s := range steps {
		if s.ends() {
			end(s.old)
		}
		switch s.fate {
		case add, replace:
			parts[s.key] = begin(s.cfg)
		case update:
			goOn(s.old, s.cfg)
			fallthrough
		case keep:
			parts[s.key] = s.old
		}
	}
	return parts
}

// count returns how many of the steps have one of the fates.
func count[P, C any](steps []step[P, C], fates ...fate) (n int) {
	for _, s := range steps {
		if slices.Contains(fates, s.fate) {
			n++
		}
	}
	return n
}
