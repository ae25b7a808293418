package config

import (
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/healthcheck"
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
		if near := nearest(s, list); near != "" {
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
		s, err := resolveSecret(n.Value, d.dir)
		if err != nil {
			d.fail(path, "%v", own(err.Error()))
			return
		}
		*to = s
	}}
}

// command is a program and its arguments: a list, or the program alone.
func command(to *[]string) value {
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
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
