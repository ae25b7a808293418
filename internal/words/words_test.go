package words

import "testing"

type colour int8

var colours = []string{1: "red", 2: "green", 3: "blue"}

func TestWords(t *testing.T) {
	for v, want := range map[colour]string{-1: "colour(-1)", 0: "colour(0)", 1: "red", 3: "blue", 4: "colour(4)"} {
		if got := Of(colours, v); got != want {
			t.Errorf("Of(%d) = %q, want %q", int(v), got, want)
		}
	}
	for text, want := range map[string]colour{"red": 1, "blue": 3, "": 9, "Red": 9, "colour(1)": 9} {
		got := colour(9) // stays after an error
		if err := Parse(colours, []byte(text), &got); got != want || (err == nil) != (want != 9) {
			t.Errorf("Parse(%q): %v, %v, want %v", text, got, err, want)
		}
	}
	var v colour
	if err := Parse(colours, []byte("pink"), &v); err == nil || err.Error() != `"pink": want red, green or blue` {
		t.Errorf("got %v", err)
	}
	for want, list := range map[string][]string{"": nil, "red": {"red"}, "red or blue": {"red", "", "blue"}} {
		if got := Choice(list); got != want {
			t.Errorf("Choice(%q) = %q, want %q", list, got, want)
		}
	}
}
