package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/havip/havip/internal/field"
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

// whole is an integer as its text.
func whole[T uint8 | uint32 | int](s string) (T, bool) {
	i, err := strconv.Atoi(s)
	// Other notations of YAML, 0x33, 051 and 1_000, are more often mistakes.
	return T(i), err == nil && int(T(i)) == i && strconv.Itoa(i) == s
}

// integer is a number whose range the library knows.
func integer[T uint8 | uint32 | int](to *T) value {
	var v value
	v = scalar(to, "", func(s string) (T, error) {
		i, ok := whole[T](s)
		if !ok {
			return 0, errors.New("want " + v.owner.says(""))
		}
		return i, nil
	})
	return unquoted(v, "")
}

// integerIn is a number in a range.
func integerIn[T uint8 | uint32 | int](to *T, least, most int) value {
	want := fmt.Sprintf("%d to %d", least, most)
	if most == least+1 {
		want = fmt.Sprintf("%d or %d", least, most)
	}
	v := unquoted(scalar(to, want, func(s string) (T, error) {
		i, ok := whole[T](s)
		if !ok || int(i) < least || int(i) > most {
			return 0, errors.New("want " + want)
		}
		return i, nil
	}), want)
	v.want = want
	return v
}

func boolean(to *bool) value {
	const want = "true or false"
	return unquoted(scalar(to, want, func(s string) (bool, error) {
		if s != "true" && s != "false" {
			return false, errors.New("want " + want)
		}
		return s == "true", nil
	}), want)
}

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

// lease is a duration in whole seconds, or auto.
func lease(to *time.Duration) value {
	const want = "auto, or 0s to 1h in whole seconds"
	plain := durationIn(to, 0, time.Hour)
	return value{want: want, decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && n.Value == "auto" {
			*to = 0
			return
		}
		plain.decode(d, n, path)
		switch {
		case d.failed(path):
		case *to == 0:
			*to = -1 // none, as in vip.Config
		case *to%time.Second != 0:
			d.fail(path, "%s: want %s", d.quote(n), own(want))
		}
	}}
}

// word is one of a few words.
func word(to *string, words ...string) value {
	return value{to: []any{to}, words: words, decode: func(d *decoder, n *yaml.Node, path string) {
		now := available(words, pattern(path), d.later)
		want := orList(now)
		scalar(to, want, func(s string) (string, error) {
			if slices.Contains(now, s) {
				return s, nil
			}
			if slices.Contains(words, s) {
				return "", errors.New("not available in this version: want " + want)
			}
			if near := nearest(s, now); near != "" {
				return "", fmt.Errorf("did you mean %s? Want %s", near, want)
			}
			return "", errors.New("want " + want)
		}).decode(d, n, path)
	}}
}

// available are the words that may be said at a place now.
func available(words []string, place string, later []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains(later, place+"="+w) })
}

// text is any text that check accepts.
func text(to *string, want string, check func(string) bool) value {
	return scalar(to, want, func(s string) (string, error) {
		if !check(s) {
			return "", errors.New("want " + want)
		}
		return s, nil
	})
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// name is what routers, checks and services are called: fit for arguments of
// scripts, labels of metrics and paths of URLs.
func name(to *string) value {
	return text(to, "a name of up to 64 letters, digits, '_', '-' and '.'", nameForm.MatchString)
}

// interfaceName follows dev_valid_name in Linux, net/core/dev.c.
func interfaceName(to *string) value {
	return text(to, "the name of a network interface, up to 15 characters", func(s string) bool {
		return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\n\v\f\r\x00")
	})
}

// label of an IPv4 address: ifconfig and others take it for the name of an
// interface.
func label(to *string) value {
	return text(to, "a label of up to 15 characters, such as eth0:vip", func(s string) bool {
		return s != "" && len(s) <= 15 && !strings.ContainsAny(s, "/ \t\n\v\f\r\x00")
	})
}

func absolutePath(to *string) value {
	return text(to, "an absolute path", filepath.IsAbs)
}

// address is one host's address, without a zone: the interface is given
// elsewhere.
func address(to *netip.Addr) value {
	return scalar(to, "an IP address", func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Addr{}, errors.New("want an IP address")
		}
		return a, hostAddress(a)
	})
}

func hostAddress(a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return fmt.Errorf("leave out %%%s", a.Zone())
	case a.Is4In6():
		return fmt.Errorf("write it as %s", a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == broadcast, thisNetwork.Contains(a):
		return errors.New("want the address of a host on the network")
	}
	return nil
}

// prefix is an address with the length of its network: all of it when none is
// given.
func prefix(to *netip.Prefix) value {
	const want = "an address such as 192.168.31.250/24 or 192.168.31.250"
	return scalar(to, want, func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if a, bare := netip.ParseAddr(s); bare == nil {
			p, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), hostAddress(a)
		} else if err != nil {
			return netip.Prefix{}, errors.New("want " + want)
		} else {
			err = hostAddress(p.Addr())
		}
		if err == nil && p.Addr().Is4() && p.Bits() < 31 && (p == p.Masked() || p.Addr() == lastAddress(p)) {
			err = fmt.Errorf("the first and the last address of %s cannot be a host's", p.Masked())
		}
		if err == nil && p.Bits() == 0 {
			err = fmt.Errorf("/0 is every network: want %s", want)
		}
		return p, err
	})
}

// network is a destination with its length.
func network(to *netip.Prefix) value {
	return scalar(to, "a network such as 10.0.0.0/8", func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return netip.Prefix{}, errors.New("want a network such as 10.0.0.0/8")
		}
		if p != p.Masked() {
			return netip.Prefix{}, fmt.Errorf("want the network: %s", p.Masked())
		}
		return p, nil
	})
}

// lastAddress is the broadcast address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := range a {
		a[i] |= byte(0xff >> min(8, max(0, p.Bits()-8*i)))
	}
	return netip.AddrFrom4(a)
}

// listenAddress is "address:port", or ":port" for an address that is not valid.
func listenAddress(to *netip.AddrPort) value {
	const want = `":8080" or an address and port such as 192.168.31.250:8080`
	return scalar(to, want, func(s string) (netip.AddrPort, error) {
		host, port, err := net.SplitHostPort(s)
		if err != nil || !validPort(port) {
			return netip.AddrPort{}, errors.New("want " + want)
		}
		a, err := netip.ParseAddr(host)
		if host != "" && err != nil {
			return netip.AddrPort{}, errors.New("want " + want)
		}
		n, _ := strconv.ParseUint(port, 10, 16)
		return netip.AddrPortFrom(a, uint16(n)), listenable(a)
	})
}

// listenable reports an address that no machine can listen on; one that is not valid
// stands for all.
func listenable(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return fmt.Errorf("write it as %s", a.Unmap())
	case a.IsMulticast():
		return errors.New("a group, not the address of a host: want one of its own, or none for all")
	case a == broadcast, thisNetwork.Contains(a) && !a.IsUnspecified():
		return errors.New("no host has it: want one of its own, or none for all")
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return fmt.Errorf("each interface has such addresses: say which, as in [%s%%eth0]", a)
	case a.Is6() && !a.IsLinkLocalUnicast() && a.Zone() != "":
		return fmt.Errorf("leave out %%%s", a.Zone())
	}
	return nil
}

var (
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122 §3.2.1.3
)

// hostPort is where to connect to: "host:port", the host an address or a name.
func hostPort(to *string) value {
	const want = "a host and port such as 192.168.31.242:8080"
	return scalar(to, want, func(s string) (string, error) {
		host, port, err := net.SplitHostPort(s)
		if err != nil || !validPort(port) || !validHost(host) {
			return "", errors.New("want " + want)
		}
		return s, nil
	})
}

func validPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+$`)

var numeric = regexp.MustCompile(`^[0-9.]+$`)

// validHost accepts an address that can be connected to, or a name. Digits and
// dots alone are a mistyped address, not a name.
func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	return len(s) <= 253 && hostForm.MatchString(s) && !numeric.MatchString(s)
}

// host is an address or a name.
func host(to *string) value { return text(to, "a host or an address", validHost) }

// dnsName may have underscores, and a final dot.
func dnsName(to *string) value {
	return text(to, "a name such as www.example.org", func(s string) bool { return len(s) <= 253 && hostForm.MatchString(s) })
}

// isPrintable keeps out what does not fit on one line.
func isPrintable(s string) bool {
	return s != "" && len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// expression is a regular expression in Go's syntax.
func expression(to *string) value {
	return scalar(to, "a regular expression", func(s string) (string, error) {
		if s == "" {
			return "", errors.New("want a regular expression")
		}
		if _, err := regexp.Compile(s); err != nil {
			return "", fmt.Errorf("want a regular expression: %s", show(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
		}
		return s, nil
	})
}

// octets are bytes: text, or "hex:" and digits.
func octets(to *string) value {
	const want = "text, or hex: and digits"
	return scalar(to, want, func(s string) (string, error) {
		digits, isHex := strings.CutPrefix(s, "hex:")
		if isHex {
			b, err := hex.DecodeString(digits)
			if err != nil || len(b) == 0 {
				return "", own("want pairs of hexadecimal digits after the word hex, such as 00ff")
			}
			return string(b), nil
		}
		if s == "" {
			return "", errors.New("want " + want)
		}
		return s, nil
	})
}

// environment is a mapping from names of variables to values.
func environment(to *[]Header) value {
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		for _, p := range pairs {
			sub, h := join(path, p.name), Header{Name: p.name}
			if !variableForm.MatchString(p.name) {
				d.failAt(d.position(p.key), sub, "want the name of a variable, such as LANG")
			}
			d.decode(text(&h.Value, "text without NUL", func(s string) bool { return !strings.ContainsRune(s, 0) }), p.value, sub)
			*to = append(*to, h)
		}
	}}
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// oneOrList is a list, or its only item.
func oneOrList[T any](to *[]T, item func(*T) value) value {
	many := list(to, item)
	return value{to: many.to, owner: many.owner, variants: many.variants, shape: many.shape, decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode {
			many.decode(d, n, path)
			return
		}
		*to = make([]T, 1)
		item(&(*to)[0]).decode(d, n, path)
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
