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
)

// scalar is a plain value, read by parse. Numbers and the like stand for their
// text, as written.
func scalar[T any](to *T, want string, parse func(string) (T, error)) value {
	o := new(owner)
	return value{to: []any{to}, owner: o, decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			d.fail(path, "%s: want %s", d.describe(n), own(o.says(want)))
			return
		}
		v, err := parse(n.Value)
		if err == nil && o.known() && reflect.ValueOf(v).IsZero() && !o.takesZero() {
			err = errors.New("want " + o.says(want))
		}
		if err != nil {
			if _, hidden := d.place(path); hidden && !errors.As(err, new(own)) {
				err = own("want " + o.says(want))
			}
			d.fail(path, "%s: %v", d.quote(n), err)
			return
		}
		*to = v
	}}
}

// unquoted is v for values that mean something else when quoted.
func unquoted(v value, want string) value {
	decode := v.decode
	v.decode = func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			d.fail(path, "%s: want %s, without quotes", d.describe(n), own(v.owner.says(want)))
			return
		}
		decode(d, n, path)
	}
	return v
}

// plain is a text that the library judges.
func plain(to *string) value { return scalar(to, "", anyText) }

// wanted is a plain value of which nothing can be said but what is wanted. Without
// words for that the library has them.
func wanted[T any](to *T, want string, parse func(string) (T, bool)) value {
	var v value
	v = scalar(to, want, func(s string) (T, error) {
		x, ok := parse(s)
		if !ok {
			return x, errors.New("want " + v.owner.says(want))
		}
		return x, nil
	})
	return v
}

// text is any text that check accepts.
func text(to *string, want string, check func(string) bool) value {
	return wanted(to, want, func(s string) (string, bool) { return s, check(s) })
}

func boolean(to *bool) value {
	const want = "true or false"
	return unquoted(wanted(to, want, func(s string) (bool, bool) { return s == "true", s == "true" || s == "false" }), want)
}

// not is a boolean whose field says the opposite of its key.
func not(to *bool) value {
	v := boolean(to)
	v.owner.not = true
	return v.then(func(d *decoder, _ *yaml.Node, path string) { *to = !*to && !d.failed(path) })
}

// either is one of two words, for false and true.
func either(to *bool, no, yes string) value {
	var said string
	v := word(&said, no, yes)
	v.to, v.owner = []any{to}, &owner{either: []string{no, yes}}
	return v.then(func(*decoder, *yaml.Node, string) { *to = said == yes })
}

// word is one of a few words.
func word(to *string, words ...string) value {
	want := orList(words)
	v := scalar(to, want, func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		if near := nearest(s, words); near != "" {
			return "", fmt.Errorf("did you mean %s? Want %s", near, want)
		}
		return "", errors.New("want " + want)
	})
	v.want = want
	return v
}

// choice is one of the words of an enumeration.
func choice[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](to P) value {
	var said string
	v := word(&said, words(P(new(T)))...)
	v.to, v.owner = []any{to}, new(owner)
	return v.then(func(d *decoder, _ *yaml.Node, path string) {
		if err := to.UnmarshalText([]byte(said)); err != nil && !d.failed(path) {
			d.fail(path, "%s: %v", said, err)
		}
	})
}

// words are those of an enumeration, as it lists them for a word that it does not have.
func words(of encoding.TextUnmarshaler) []string {
	return alternatives(of.UnmarshalText([]byte("?")))
}

// alternatives are the words that an error says it wants.
func alternatives(err error) []string {
	_, list, _ := strings.Cut(fmt.Sprint(err), "want ")
	return strings.Split(strings.ReplaceAll(list, " or ", ", "), ", ")
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
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
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

// expression is a regular expression in Go's syntax.
func expression(to **regexp.Regexp) value {
	return scalar(to, "a regular expression", func(s string) (*regexp.Regexp, error) {
		if s == "" {
			return nil, errors.New("want a regular expression")
		}
		re, err := regexp.Compile(s)
		if err != nil {
			return nil, fmt.Errorf("want a regular expression: %s", show(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		}
		return re, nil
	})
}

// octets are bytes: text, or "hex:" and digits.
func octets(to *[]byte) value {
	const want = "text, or hex: and digits"
	return scalar(to, want, func(s string) ([]byte, error) {
		digits, isHex := strings.CutPrefix(s, "hex:")
		if isHex {
			b, err := hex.DecodeString(digits)
			if err != nil || len(b) == 0 {
				return nil, own("want pairs of hexadecimal digits after the word hex, such as 00ff")
			}
			return b, nil
		}
		if s == "" {
			return nil, errors.New("want " + want)
		}
		return []byte(s), nil
	})
}

// anyText is what only the library judges.
func anyText(s string) (string, error) { return s, nil }
