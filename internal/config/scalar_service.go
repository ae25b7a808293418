package config

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

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

// size is a number of bytes.
func size(to *int64) value {
	const want = "a number of bytes, such as 65536, 64KiB or 1MiB"
	return scalar(to, want, func(s string) (int64, error) {
		digits, unit := s, int64(1)
		for i, suffix := range []string{"KiB", "MiB", "GiB"} {
			if d, ok := strings.CutSuffix(s, suffix); ok {
				digits, unit = strings.TrimSuffix(d, " "), 1<<(10*(i+1))
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits || n > 1<<50/unit {
			return 0, errors.New("want " + want)
		}
		return n * unit, nil
	})
}

// trusted is the address of a host, or a network of hosts.
func trusted(to *netip.Prefix) value {
	const want = "an address or a network such as 192.168.31.0/24"
	plain := network(to)
	return value{decode: func(d *decoder, n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			d.fail(path, "%s: want %s", d.describe(n), own(want))
			return
		}
		a, err := netip.ParseAddr(n.Value)
		switch {
		case err != nil:
			plain.decode(d, n, path)
		case a.Zone() != "":
			d.fail(path, "%s: leave out %%%s", a, a.Zone())
		case a.Is4In6():
			d.fail(path, "%s: write it as %s", a, a.Unmap())
		default:
			*to = netip.PrefixFrom(a, a.BitLen())
		}
	}}
}

// serverName is one that clients ask for by SNI, in lower case.
func serverName(to *string) value {
	const want = "a name such as www.example.org or *.example.org"
	return scalar(to, want, func(s string) (string, error) {
		rest := strings.TrimPrefix(s, "*.")
		if len(s) > 253 || !hostForm.MatchString(rest) || numeric.MatchString(rest) {
			return "", errors.New("want " + want)
		}
		return strings.ToLower(strings.TrimSuffix(s, ".")), nil
	})
}

// protocol is a name for ALPN, of up to 255 bytes (RFC 7301 §3.1).
func protocol(to *string) value {
	return text(to, "a protocol such as h2", func(s string) bool { return isPrintable(s) && len(s) <= 255 })
}

// headers is a mapping from names of headers to values.
func headers(to *map[string]string) value {
	return value{to: []any{to}, owner: new(owner), decode: func(d *decoder, n *yaml.Node, path string) {
		pairs, _ := d.pairs(n, path)
		*to = make(map[string]string, len(pairs))
		for _, p := range pairs {
			sub, text := join(path, p.name), ""
			d.places[mapKey{to, p.name}] = sub
			d.decode(scalar(&text, "the value of a header", func(s string) (string, error) { return s, nil }), p.value, sub)
			d.at[sub] = d.position(p.key)
			(*to)[p.name] = text
		}
	}}
}
