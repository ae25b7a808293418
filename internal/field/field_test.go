package field

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"
)

func TestAll(t *testing.T) {
	weight, port := Errorf("Weight", "0: want 1 to %d", 256), Errorf("Port", "missing")
	plain := errors.New("no pool")
	for name, tt := range map[string]struct {
		err  error
		want []string
	}{
		"none":             {nil, nil},
		"one":              {weight, []string{"Weight"}},
		"joined":           {errors.Join(weight, port), []string{"Weight", "Port"}},
		"joined twice":     {errors.Join(port, errors.Join(plain, weight)), []string{"Port", "", "Weight"}},
		"wrapped":          {fmt.Errorf("lb: pool: %w", errors.Join(weight, port)), []string{"Weight", "Port"}},
		"without a field":  {fmt.Errorf("lb: %w", plain), []string{""}},
		"below":            {In("Backends[1]", errors.Join(weight, port)), []string{"Backends[1].Weight", "Backends[1].Port"}},
		"below, no field":  {In("Pool", plain), []string{"Pool"}},
		"nothing below":    {In("Pool", nil), nil},
		"its own cause":    {Errorf("Key", "%w", errors.Join(io.EOF, weight)), []string{"Key"}},
		"two levels below": {In("Pool", In("Backends[0]", weight)), []string{"Pool.Backends[0].Weight"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range All(tt.err) {
				got = append(got, e.Field)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("All(%v) = %q, want %q", tt.err, got, tt.want)
			}
		})
	}
	if err := If(false, "Port", "%d: want 1", 0); err != nil {
		t.Errorf("If of a rule that holds: %v", err)
	}
	if err := If(true, "Port", "%d: want 1", 0); err == nil || err.Error() != "Port: 0: want 1" {
		t.Errorf("If of a broken rule: %v", err)
	}
	if err := In("Pool", nil); err != nil {
		t.Errorf("In of no error: %v", err)
	}
	if err := Errorf("File", "open: %w", io.EOF); !errors.Is(err, io.EOF) || err.Error() != "File: open: EOF" {
		t.Errorf("got %q, want File: open: EOF, which is io.EOF", err)
	}
}

func TestRanges(t *testing.T) {
	for want, err := range map[string]error{
		"Weight: 0: want 1 to 256":               Between("Weight", 0, 1, 256),
		"Weight: 257: want 1 to 256":             Between[uint16]("Weight", 257, 1, 256),
		"Timeout: 2h: want 10ms to 1h":           Between("Timeout", 2*time.Hour, 10*time.Millisecond, time.Hour),
		"Timeout: 1h30m0.5s: want 10ms to 1h30m": Between("Timeout", 90*time.Minute+time.Second/2, 10*time.Millisecond, 90*time.Minute),
		"Load: 1.5: want 0 to 1":                 Between("Load", 1.5, 0, 1),
		"Rate: -1: want 0 to 1000000000":         Between[float64]("Rate", -1, 0, 1e9),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, err := range []error{Between("Weight", 1, 1, 256), Between("Weight", 256, 1, 256)} {
		if err != nil {
			t.Errorf("an end of the range is refused: %v", err)
		}
	}
}
