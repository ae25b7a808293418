package healthcheck

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var errTest = errors.New("test: target is broken")

// TestRiseAndFall feeds results, one second apart, and reads the state after
// each: + success, - failure, ? could not run.
func TestRiseAndFall(t *testing.T) {
	tests := []struct {
		name    string
		cfg     Config
		results string
		want    string // u unknown, U up, D down
	}{
		{"unknown: the first success decides", Config{}, "+", "U"},
		{"unknown: the first failure decides", Config{}, "-", "D"},
		{"fall takes two", Config{Initial: Up}, "+--", "UUD"},
		{"rise takes two", Config{Initial: Down}, "-++", "DDU"},
		{"a success ends a run of failures", Config{Fall: 3}, "+--+---", "UUUUUUD"},
		{"a failure ends a run of successes", Config{Rise: 3}, "-++-+++", "DDDDDDU"},
		{"rise 1, fall 1 follows every result", Config{Rise: 1, Fall: 1}, "+-+-", "UDUD"},
		{"hold-down keeps a flapping target down", Config{Rise: 1, Fall: 1, HoldDown: 3 * time.Second}, "+-+-+++-+++", "UDDDUUUDDDU"},
		{"hold-down counts rise meanwhile", Config{Rise: 2, Fall: 1, HoldDown: 3 * time.Second}, "+-++++", "UDDDUU"},
		{"fail-safe: cannot run is a failure", Config{}, "+??", "UUD"},
		{"fail-static: cannot run changes nothing", Config{FailStatic: true}, "?+????--", "uUUUUUUD"},
		{"fail-static: the counts stand still", Config{FailStatic: true}, "+-?-", "UUUD"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Checker = CheckerFunc(nil)
			if err := test.cfg.complete(); err != nil {
				t.Fatal(err)
			}
			now := time.Unix(1000, 0)
			c := newCore(&test.cfg, now)
			c.start(now, 0)
			var got strings.Builder
			for _, r := range test.results {
				err := map[rune]error{'-': errTest, '?': fmt.Errorf("wrapped: %w", ErrCannotRun)}[r]
				before := c.State
				c.begin()
				if changed := c.record(now, 0, err, 0); changed != (before != c.State) {
					t.Errorf("changed is %v, state went from %v to %v", changed, before, c.State)
				}
				got.WriteByte("uUD"[c.State])
				now = now.Add(time.Second)
			}
			if got.String() != test.want {
				t.Errorf("%s gave %s, want %s", test.results, got.String(), test.want)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	cfg := Config{Checker: CheckerFunc(nil)}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(cfg.Name, cfg.Interval, cfg.FastInterval, cfg.DownInterval, cfg.Timeout, cfg.Rise, cfg.Fall)
	if want := "check1s 1s 1s 1s 2 2"; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
	slow := Config{Checker: CheckerFunc(nil), Interval: time.Minute}
	if err := slow.complete(); err != nil || slow.Timeout != 5*time.Second {
		t.Errorf("timeout at an interval of a minute is %v (%v), want 5s", slow.Timeout, err)
	}
}

func TestConfigMistakes(t *testing.T) {
	ok := CheckerFunc(nil)
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no checker", Config{}, "no Checker"},
		{"invalid checker", Config{Checker: TCP{Address: "nonsense"}}, `tcp "nonsense": want host:port`},
		{"negative interval", Config{Checker: ok, Interval: -1}, "Interval -1ns: must be at least 1ms"},
		{"tiny interval", Config{Checker: ok, Interval: 1}, "Interval 1ns: must be at least 1ms"},
		{"timeout beyond interval", Config{Checker: ok, Timeout: 2 * time.Second}, "Timeout 2s exceeds Interval 1s"},
		{"fast is slow", Config{Checker: ok, FastInterval: time.Minute}, "FastInterval 1m0s exceeds Interval 1s"},
		{"negative down interval", Config{Checker: ok, DownInterval: -1}, "DownInterval -1ns"},
		{"too much jitter", Config{Checker: ok, Jitter: 2 * time.Second}, "Jitter 2s exceeds the shortest interval, 1s"},
		{"negative spread", Config{Checker: ok, StartSpread: -1}, "StartSpread -1ns"},
		{"negative hold-down", Config{Checker: ok, HoldDown: -1}, "HoldDown -1ns"},
		{"negative rise", Config{Checker: ok, Rise: -1}, "Rise -1, Fall 2"},
		{"negative fall", Config{Checker: ok, Fall: -1}, "Rise 2, Fall -1"},
		{"no such state", Config{Checker: ok, Initial: 7}, "Initial State(7)"},
		{"two mistakes", Config{Rise: -1}, "Rise -1, Fall 2: must be at least 1\nhealthcheck: monitor check: no Checker"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewMonitor(test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q in it", err, test.want)
			}
		})
	}
	if _, err := NewMonitor(Config{Checker: ok, Timeout: 2 * time.Second, LongTimeout: true}); err != nil {
		t.Errorf("LongTimeout does not permit a long timeout: %v", err)
	}
}

// TestConfigFields fails when a field is added to Config that neither
// complete nor this list knows.
func TestConfigFields(t *testing.T) {
	anything := []string{"LongTimeout", "FailStatic", "Logger"} // every value is valid
	checked := []string{"Name", "Checker", "Interval", "FastInterval", "DownInterval", "Timeout", "Jitter", "StartSpread",
		"Rise", "Fall", "HoldDown", "Initial"} // by complete, see TestConfigDefaults and TestConfigMistakes
	known := append(anything, checked...)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if !slices.Contains(known, f.Name) {
			t.Errorf("nobody accounts for the field %s", f.Name)
		}
	}
	if n := reflect.TypeFor[Config]().NumField(); n != len(known) {
		t.Errorf("Config has %d fields, %d are known", n, len(known))
	}
}

func TestStateText(t *testing.T) {
	for _, s := range []State{Unknown, Up, Down} {
		text, err := s.MarshalText()
		var back State
		if err != nil || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%v became %q and then %v", s, text, back)
		}
	}
	var s State
	if err := s.UnmarshalText([]byte("UP")); err == nil {
		t.Error("UP was accepted as a state")
	}
}
