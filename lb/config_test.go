package lb

import (
	"errors"
	"reflect"
	"testing"

	"github.com/havip/havip/internal/field"
)

// config is what all configurations of this package have.
type config[T any] interface {
	Validate() error
	WithDefaults() T
}

// keepsConfigContract checks what holds for every configuration: Validate can be
// repeated, it and WithDefaults change nothing, and what has its defaults is as
// valid as before and has no others. c must be valid; it has fields without a value.
func keepsConfigContract[T config[T]](t *testing.T, c T) {
	t.Helper()
	var before T
	copyInto(&before, c)
	full := c.WithDefaults()
	for range 2 {
		if err := errors.Join(c.Validate(), full.Validate()); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
	if !reflect.DeepEqual(c, before) {
		t.Errorf("%T was changed: %+v, was %+v", c, c, before)
	}
	if again := full.WithDefaults(); !reflect.DeepEqual(again, full) {
		t.Errorf("%T: defaults of defaults: %+v, of %+v", c, again, full)
	}
	if reflect.DeepEqual(c, full) {
		t.Errorf("%T: no field got a default: %+v", c, full)
	}
}

// copyInto copies a structure together with its slices of structures.
func copyInto[T any](to *T, from T) {
	*to = from
	v := reflect.ValueOf(to).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && !f.IsNil() {
			f.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f))
		}
	}
}

// faulty returns the fields that err is about.
func faulty(err error) (names []string) {
	for _, e := range field.All(err) {
		names = append(names, e.Field)
	}
	return names
}

func TestConfigurationsKeepTheContract(t *testing.T) {
	keepsConfigContract(t, Backend{Address: "192.0.2.1:80"})
	keepsConfigContract(t, PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80"}, {Address: "unix:/run/x"}}})
	keepsConfigContract(t, Limits{Rate: 5, TotalRate: 0.1})
	p := newPool(t, PoolConfig{})
	keepsConfigContract(t, TCPConfig{Pool: p, Limits: Limits{Rate: 5}})
	keepsConfigContract(t, UDPConfig{Pool: p})
}

// What a Limits alone gets wrong is told by its fields.
func TestLimitsFaults(t *testing.T) {
	for _, tt := range []struct {
		limits Limits
		want   []string
	}{
		{Limits{Burst: 1}, []string{"Burst"}},
		{Limits{Rate: 1, Burst: 1, TotalBurst: 2}, []string{"TotalBurst"}},
		{Limits{Connections: -1, Rate: -1}, []string{"Connections", "Rate"}},
	} {
		if got := faulty(tt.limits.Validate()); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v: faults in %q, want %q", tt.limits, got, tt.want)
		}
	}
}
