package report

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// fill sets each string in a value, however deep, and makes two elements of each list.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Struct:
		if _, ok := v.Addr().Interface().(*time.Time); ok {
			v.Set(reflect.ValueOf(now))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	}
}

// FuzzHostileText: whatever the texts of the values are, they neither steer the terminal
// nor make a line that is wider than the screen.
func FuzzHostileText(f *testing.F) {
	f.Add("\x1b[2J\x1b]0;title\a", 80)
	f.Add("two\r\nlines\n", 40)
	f.Add("C1 \u009b31m, \u202eright to left, \xff", 25)
	f.Add(strings.Repeat("long", 100), 120)
	f.Add("", 80)
	f.Add(" 000000", 3)
	f.Add("a-name-of-a-host", 5) // which leaves no room beside it
	f.Fuzz(func(t *testing.T, text string, width int) {
		text = text[:min(len(text), 1000)]
		l := Layout{Width: 25 + max(width, -width)%200}
		var s Status
		var e Event
		var x Explanation
		var c Change
		for _, v := range []any{&s, &e, &x, &c} {
			fill(reflect.ValueOf(v).Elem(), text)
		}
		whole := RenderStatus(&s, true, l)
		for _, state := range []string{stateActive, stateBackup} {
			s.Routers[0].State, s.Routers[0].NotRunning, s.Routers[0].Held = state, "", true
			whole += RenderStatus(&s, false, l)
		}
		whole += RenderExplanation(x, l) + RenderChange(c, l) + RenderTrouble(text, l)
		for line := range strings.Lines(whole) {
			if line = strings.TrimSuffix(line, "\n"); columns(line) > l.Width {
				t.Errorf("%d columns of %d: %q", columns(line), l.Width, line)
			}
			checkClean(t, line)
		}
		for _, line := range append(s.FindProblems(), RenderEvent(e, l), s.Verdict(), s.Checks[0].Sentence()) {
			checkClean(t, line)
		}
	})
}

func checkClean(t *testing.T, line string) {
	t.Helper()
	if clean(line) != line {
		t.Errorf("not fit for a terminal: %q", line)
	}
}
