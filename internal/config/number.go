package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
	"go.yaml.in/yaml/v3"
)

// whole is an integer as its text.
func whole[T uint8 | uint32 | int](s string) (T, bool) {
	i, err := strconv.Atoi(s)
	// Other notations of YAML, 0x33, 051 and 1_000, are more often mistakes.
	return T(i), err == nil && int(T(i)) == i && strconv.Itoa(i) == s
}

// integer is a number whose range the library knows.
func integer[T uint8 | uint32 | int](to *T) value { return unquoted(wanted(to, "", whole[T]), "") }

// integerIn is a number in a range.
func integerIn[T uint8 | uint32 | int](to *T, least, most int) value {
	want := fmt.Sprintf("%d to %d", least, most)
	v := unquoted(wanted(to, want, func(s string) (T, bool) {
		i, ok := whole[T](s)
		return i, ok && least <= int(i) && int(i) <= most
	}), want)
	v.want = want
	return v
}

// off is a number of which the file's zero means never, as a negative one does in the
// library, where zero means the default.
func off(v value) value {
	v.owner.off = true
	return v.then(func(d *decoder, n *yaml.Node, path string) {
		switch f := reflect.ValueOf(v.to[0]).Elem(); {
		case d.failed(path):
		case f.IsZero():
			f.SetInt(-1)
		case f.Int() < 0:
			f.SetInt(0)
			d.fail(path, "%s: want %s", d.quote(n), own(v.owner.want()))
		}
	})
}

// positive is a number that is not zero, whose default is of no use here.
func positive(v value) value {
	v.owner.positive = true
	return v
}

// decimal is a number, not negative, with up to three decimals.
func decimal(to *float64) value {
	var v value
	v = unquoted(scalar(to, "", func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !decimalForm.MatchString(s) {
			return 0, errors.New("want " + v.owner.says("") + ", such as 20 or 0.5")
		}
		return f, nil
	}), "")
	return v
}

var decimalForm = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.[0-9]{1,3})?$`)

// period is a duration as its text. The error says what is wrong with the text; what
// is wanted follows it.
func period(s, want string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("a unit is missing: want %s, such as %ss or %sms", want, s, s)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("want a number with its unit, ms, s, m or h: %s", want)
	}
	return v, nil
}

// duration is one whose range the library knows.
func duration(to *time.Duration) value {
	var v value
	v = scalar(to, "", func(s string) (time.Duration, error) { return period(s, v.owner.says("")) })
	return v
}

// durationIn is a duration in a range.
func durationIn(to *time.Duration, least, most time.Duration) value {
	want := fmt.Sprintf("%s to %s", field.Span(least), field.Span(most))
	v := scalar(to, want, func(s string) (time.Duration, error) {
		v, err := period(s, want)
		if err == nil && (v < least || v > most) {
			err = errors.New("want " + want)
		}
		return v, err
	})
	v.want = want
	return v
}

// lease is a duration, of which zero means none, or auto: the zero value.
func lease(to *time.Duration) value {
	const want = "auto, or 0s or more in whole seconds"
	v := scalar(to, want, func(s string) (time.Duration, error) {
		if s == "auto" {
			return 0, nil
		}
		t, err := period(s, want)
		switch {
		case err == nil && t < 0:
			err = errors.New("want " + want)
		case err == nil && t == 0:
			t = -1
		}
		return t, err
	})
	v.want, v.owner.off = want, true
	return v
}

// size is a number of bytes.
func size(to *int64) value {
	return wanted(to, "a number of bytes, such as 65536, 64KiB or 1MiB", func(s string) (int64, bool) {
		digits, unit := s, int64(1)
		for i, suffix := range []string{"KiB", "MiB", "GiB"} {
			if d, ok := strings.CutSuffix(s, suffix); ok {
				digits, unit = strings.TrimSuffix(d, " "), 1<<(10*(i+1))
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		return n * unit, err == nil && n >= 0 && strconv.FormatInt(n, 10) == digits && n <= 1<<50/unit
	})
}
