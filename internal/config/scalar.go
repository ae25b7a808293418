package config

import (
	"cmp"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// errUnfit is the error of a text of which nothing can be said but what is wanted.
var errUnfit = errors.New("does not fit")

// fits returns errUnfit unless a text is what is wanted.
func fits(ok bool) error {
	if ok {
		return nil
	}
	return errUnfit
}

// scalar is a plain value, read by parse. Numbers and the like stand for their
// text, as written. want is what may stand there; empty: the library says it.
func scalar[T any](to *T, want string, parse func(string) (T, error)) value {
	t := &target{to: to, want: want}
	return value{to: []*target{t}, decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			d.fail(path, "%s: want %s", d.describe(n), own(t.wants()))
			return
		}
		v, err := parse(n.Value)
		if err == nil && t.home != nil && reflect.ValueOf(v).IsZero() {
			err = fits(t.takesZero())
		}
		if err == nil {
			*to = v
			return
		}
		if _, hidden := d.place(path); err == errUnfit || hidden && !errors.As(err, new(own)) {
			err = own("want " + t.wants())
		}
		d.fail(path, "%s: %v", d.quote(n), err)
	}}
}

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle

// unquoted is v for values that mean something else when quoted.
func unquoted(v value) value {
	isQuoted := func(n *yaml.Node) bool { return n.Style&quoted != 0 }
	return v.unless(isQuoted, func(d *decoder, n *yaml.Node, path string) {
		d.fail(path, "%s: want %s, without quotes", d.describe(n), own(v.to[0].wants()))
	})
}

// plain is a text that the library judges.
func plain(to *string) value { return text(to, "", anyText) }

func anyText(string) bool { return true }

// text is any text that check accepts.
func text(to *string, want string, check func(string) bool) value {
	return scalar(to, want, func(s string) (string, error) { return s, fits(check(s)) })
}

func boolean(to *bool) value { return truth(to, "true") }

// truth is a boolean; set is the text that stands for true in the field.
func truth(to *bool, set string) value {
	return unquoted(scalar(to, "true or false", func(s string) (bool, error) {
		return s == set, fits(s == "true" || s == "false")
	}))
}

// not is a boolean whose field says the opposite of its key.
func not(to *bool) value {
	v := truth(to, "false")
	v.to[0].not = true
	return v
}

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
		case f.IsZero() && f.CanFloat():
			f.SetFloat(-1)
		case f.IsZero():
			f.SetInt(-1)
		case f.CanFloat(): // decimal takes no negative ones
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
	v.to[0].show = func(v reflect.Value) string {
		if v.IsZero() {
			return "auto"
		}
		return ""
	}
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

// word is one of a few words.
func word(to *string, list ...string) value {
	return oneOf(to, list, func(i int) string { return list[i] })
}

// either is one of two words, for false and true.
func either(to *bool, no, yes string) value {
	list := []string{no, yes}
	v := oneOf(to, list, func(i int) bool { return i == 1 })
	v.to[0].either = list
	return v
}

// choice is one of the words of an enumeration.
func choice[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](to P) value {
	list := alternatives(P(new(T)).UnmarshalText([]byte("?")))
	return oneOf((*T)(to), list, func(i int) (v T) {
		P(&v).UnmarshalText([]byte(list[i])) // a word that the enumeration has listed
		return v
	})
}

// alternatives are the words that an error says it wants.
func alternatives(err error) []string {
	_, list, _ := strings.Cut(fmt.Sprint(err), "want ")
	return strings.Split(strings.ReplaceAll(list, " or ", ", "), ", ")
}

// oneOf is one of a few words, each of which stands for a value.
func oneOf[T any](to *T, list []string, is func(i int) T) value {
	want := words.Choice(list)
	v := scalar(to, want, func(s string) (v T, err error) {
		if i := slices.Index(list, s); i >= 0 {
			return is(i), nil
		}
		if near := words.Nearest(s, list); near != "" {
			return v, fmt.Errorf("did you mean %s? Want %s", near, want)
		}
		return v, errUnfit
	})
	v.want = want
	return v
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// name is what routers, checks and services are called: fit for arguments of
// scripts, labels of metrics and paths of URLs.
func name(to *string) value {
	return text(to, "a name of up to 64 letters, digits, '_', '-' and '.'", nameForm.MatchString)
}

func absolutePath(to *string) value {
	return text(to, "an absolute path", filepath.IsAbs)
}

// secret is a text, file:PATH or env:NAME. No message shows it.
func secret(to *Secret) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			d.fail(path, "%s: want text, file:PATH or env:NAME", d.describe(n))
			return
		}
		s, err := resolveSecret(n.Value, filepath.Dir(d.file))
		if err != nil {
			d.fail(path, "%v", own(err.Error()))
			return
		}
		*to = s
	}}
}

// revealed is a secret that a library needs as it is.
func revealed(to *[]byte) value {
	return value{to: []*target{{to: to}}, decode: func(d *decoder, n *yaml.Node, path string) {
		var s Secret
		if secret(&s).decode(d, n, path); !d.failed(path) {
			*to = []byte(s.Reveal())
		}
	}}
}

// command is a program and its arguments: a list, or the program alone.
func command(to *[]string) value {
	// Arguments may be passwords.
	program := func(v reflect.Value) string {
		if v.Len() > 1 {
			return v.Index(0).String() + " ..."
		}
		return yamlText(v)
	}
	return value{to: []*target{{to: to, show: program}}, decode: func(d *decoder, n *yaml.Node, path string) {
		argument := func(s *string) value {
			return text(s, "text without NUL", func(s string) bool { return !strings.ContainsRune(s, 0) })
		}
		if n.Kind == yaml.ScalarNode && strings.ContainsAny(n.Value, " \t\n") {
			// Arguments may be passwords.
			program, _, _ := strings.Cut(strings.TrimSpace(n.Value), " ")
			d.fail(path, "%s ...: no shell splits this: write a list, such as [%s, ARGUMENT]", show(program), show(program))
			return
		}
		oneOrList(to, argument).decode(d, n, path)
		if len(*to) == 0 {
			return
		}
		program := (*to)[0]
		if !filepath.IsAbs(program) && !d.failed(path+"[0]") {
			d.fail(path, "%s: want the absolute path of a program", show(program))
		}
	}}
}

// program is what an exec check runs: a command.
func program(e *healthcheck.Exec) value {
	return value{to: []*target{{to: &e.Path}, {to: &e.Args}}, decode: func(d *decoder, n *yaml.Node, path string) {
		var words []string
		if command(&words).decode(d, n, path); len(words) > 0 {
			e.Path, e.Args = words[0], words[1:]
		}
	}}
}

// expression is a regular expression in Go's syntax.
func expression(to **regexp.Regexp) value {
	return scalar(to, "a regular expression", func(s string) (*regexp.Regexp, error) {
		re, err := regexp.Compile(s)
		if err != nil {
			return nil, fmt.Errorf("want a regular expression: %s", show(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		}
		return re, fits(s != "")
	})
}

// octets are bytes: text, or "hex:" and digits.
func octets(to *[]byte) value {
	return scalar(to, "text, or hex: and digits", func(s string) ([]byte, error) {
		digits, isHex := strings.CutPrefix(s, "hex:")
		if !isHex {
			return []byte(s), fits(s != "")
		}
		b, err := hex.DecodeString(digits)
		if err != nil || len(b) == 0 {
			return nil, own("want pairs of hexadecimal digits after the word hex, such as 00ff")
		}
		return b, nil
	})
}
