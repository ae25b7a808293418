package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/internal/field"
)

// integer is a number whose range the library knows.
func integer[T uint8 | uint32 | int](to *T) value {
	return unquoted(scalar(to, "", func(s string) (T, error) {
		i, err := strconv.Atoi(s)
		// Other notations of YAML, 0x33, 051 and 1_000, are more often mistakes.
		return T(i), fits(err == nil && int(T(i)) == i && strconv.Itoa(i) == s)
	}))
}

// within is a number with a range that no library knows.
func within[T uint8 | int | time.Duration](v value, least, most T) value {
	t := v.to[0]
	t.want = field.Text(least) + " to " + field.Text(most)
	v.want = t.want
	to := t.to.(*T)
	return v.then(func(d *decoder, n *yaml.Node, path string) {
		if (*to < least || *to > most) && !d.failed(path) {
			*to = 0
			d.fail(path, "%s: want %s", d.quote(n), own(t.want))
		}
	})
}

// off is a number of which the file's zero means never, as a negative one does in the
// library, where zero means the default.
func off(v value) value {
	t := v.to[0]
	t.off = true
	return v.then(func(d *decoder, n *yaml.Node, path string) {
		switch f := t.field(); {
		case d.failed(path):
		case f.IsZero():
			f.SetInt(-1)
		case f.Int() < 0:
			f.SetInt(0)
			d.fail(path, "%s: want %s", d.quote(n), own(t.wants()))
		}
	})
}

// positive is a number that is not zero, whose default is of no use here.
func positive(v value) value {
	v.to[0].positive = true
	return v
}

// decimal is a number, not negative, with up to three decimals.
func decimal(to *float64) value {
	var v value
	v = unquoted(scalar(to, "", func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !decimalForm.MatchString(s) {
			return 0, fmt.Errorf("want %s, such as 20 or 0.5", v.to[0].wants())
		}
		return f, nil
	}))
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
	v = scalar(to, "", func(s string) (time.Duration, error) { return period(s, v.to[0].wants()) })
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
		return cmp.Or(t, -1), cmp.Or(err, fits(t >= 0))
	})
	v.want, v.to[0].off = want, true
	return v
}

// size is a number of bytes.
func size(to *int64) value {
	return scalar(to, "a number of bytes, such as 65536, 64KiB or 1MiB", func(s string) (int64, error) {
		digits, unit := s, int64(1)
		for i, suffix := range []string{"KiB", "MiB", "GiB"} {
			if d, ok := strings.CutSuffix(s, suffix); ok {
				digits, unit = strings.TrimSuffix(d, " "), 1<<(10*(i+1))
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		return n * unit, fits(err == nil && n >= 0 && strconv.FormatInt(n, 10) == digits && n <= 1<<50/unit)
	})
}
