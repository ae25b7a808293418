package healthcheck

import (
	"context"
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
			cfg, now := test.cfg.WithDefaults(), time.Unix(1000, 0)
			c := newCore(&cfg, now)
			c.startProbes(now, 0)
			var got strings.Builder
			for _, r := range test.results {
				err := map[rune]error{'-': errTest, '?': fmt.Errorf("wrapped: %w", ErrCannotRun)}[r]
				before := c.State
				c.beginProbe()
				if changed := c.recordResult(now, 0, err, 0); changed != (before != c.State) {
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
	cfg := Config{}.WithDefaults()
	got := fmt.Sprint(cfg.Name, cfg.Interval, cfg.FastInterval, cfg.DownInterval, cfg.Timeout, cfg.Rise, cfg.Fall)
	if want := "check1s 1s 1s 1s 2 2"; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
	if slow := (Config{Interval: time.Minute}).WithDefaults(); slow.Timeout != 5*time.Second {
		t.Errorf("timeout at an interval of a minute is %v, want 5s", slow.Timeout)
	}
	if again := cfg.WithDefaults(); !reflect.DeepEqual(again, cfg) {
		t.Errorf("the defaults of %+v are %+v", cfg, again)
	}
}

func TestConfigMistakes(t *testing.T) {
	ok := CheckerFunc(func(context.Context) error { return nil })
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no checker", Config{}, "Checker: missing: want something to check"},
		{"no function", Config{Checker: CheckerFunc(nil)}, "Checker: missing: want something to check"},
		{"nil pointer", Config{Checker: (*TCP)(nil)}, "Checker: missing: want something to check"},
		{"invalid checker", Config{Checker: &TCP{Address: "nonsense"}}, `Checker.Address: "nonsense": want a host and port such as 192.168.31.242:8080`},
		{"negative interval", Config{Checker: ok, Interval: -1}, "Interval: -1ns: want 10ms to 1h\nFastInterval: -1ns: want 10ms to 1h\nDownInterval: -1ns: want 10ms to 1h\nTimeout: -1ns: want 1ms to 1h"},
		{"tiny interval", Config{Checker: ok, Interval: 9 * ms, FastInterval: 10 * ms, DownInterval: 10 * ms}, "Interval: 9ms: want 10ms to 1h\nFastInterval: 10ms: longer than the interval: want at most 9ms"},
		{"timeout beyond interval", Config{Checker: ok, Timeout: 2 * time.Second}, "Timeout: 2s: longer than the interval: want at most 1s, or LongTimeout"},
		{"negative timeout", Config{Checker: ok, Timeout: -1}, "Timeout: -1ns: want 1ms to 1h"},
		{"fast is slow", Config{Checker: ok, FastInterval: time.Minute}, "FastInterval: 1m: longer than the interval: want at most 1s"},
		{"negative down interval", Config{Checker: ok, DownInterval: -1}, "DownInterval: -1ns: want 10ms to 1h"},
		{"too much jitter", Config{Checker: ok, FastInterval: time.Second / 2, Jitter: time.Second}, "Jitter: 1s: longer than the shortest interval: want at most 500ms"},
		{"negative spread", Config{Checker: ok, StartSpread: -1}, "StartSpread: -1ns: want 0s to 1h"},
		{"negative hold-down", Config{Checker: ok, HoldDown: -1}, "HoldDown: -1ns: want 0s to 24h"},
		{"negative rise", Config{Checker: ok, Rise: -1}, "Rise: -1: want 1 to 100"},
		{"negative fall", Config{Checker: ok, Fall: -1}, "Fall: -1: want 1 to 100"},
		{"no such state", Config{Checker: ok, Initial: 7}, "Initial: State(7): want unknown, up or down"},
		{"two mistakes", Config{Rise: -1}, "Rise: -1: want 1 to 100\nChecker: missing: want something to check"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := test.cfg.Validate(); err == nil || err.Error() != test.want {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
	if err := (Config{Checker: ok, Timeout: 2 * time.Second, LongTimeout: true}).Validate(); err != nil {
		t.Errorf("LongTimeout does not permit a long timeout: %v", err)
	}
	_, err := NewMonitor(Config{Name: "web", Checker: ok, Rise: -1})
	if wrong, is := errors.AsType[*FieldError](err); !is || wrong.Field != "Rise" || !strings.HasPrefix(err.Error(), "healthcheck: monitor web: Rise: ") {
		t.Errorf("error is %v, want a FieldError of web", err)
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
