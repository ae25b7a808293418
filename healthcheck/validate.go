package healthcheck

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/havip/havip/internal/field"
)

// optional is err, unless the value that it is about was left out.
func optional(value string, err error) error {
	if value == "" {
		return nil
	}
	return err
}

// validateAddress checks the form of "host:port". The port must be a number: what a port's
// name means depends on the machine.
func validateAddress(name, address string) error {
	host, port, err := net.SplitHostPort(address)
	return field.If(err != nil || !isHost(host) || !isPort(port), name, "%q: want a host and port such as 192.168.31.242:8080", address)
}

func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

// label is a part of a host's name (RFC 1035 §2.3.4).
const label = `[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?`

var (
	hostForm   = regexp.MustCompile(`^` + label + `(\.` + label + `)*\.?$`)
	numberForm = regexp.MustCompile(`^[0-9.]+$`)
	// hostHeaderForm is that of RFC 3986 §3.2.2.
	hostHeaderForm = regexp.MustCompile(`^[A-Za-z0-9._~%-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)
)

// isHost accepts an address that can be connected to, or a name. Digits and dots
// alone are a mistyped address, not a name.
func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	return len(s) <= 253 && hostForm.MatchString(s) && !numberForm.MatchString(s)
}

// validateHostHeader checks a name that a server is told.
func validateHostHeader(name, host string) error {
	return field.If(!hostHeaderForm.MatchString(host), name, "%q: want a host such as www.example.org", host)
}

// validateInterface follows dev_valid_name in Linux, net/core/dev.c.
func validateInterface(name, ifi string) error {
	return field.If(ifi == "" || len(ifi) > 15 || ifi == "." || ifi == ".." || strings.ContainsAny(ifi, "/: \t\n\v\f\r\x00"),
		name, "%q: want the name of a network interface, up to 15 characters", ifi)
}

// validateText rejects a text that is empty or does not fit on one line.
func validateText(name, text, want string) error {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return field.If(text == "" || len(text) > 1024 || strings.ContainsFunc(text, unprintable), name, "%q: want %s", text, want)
}

// validatePath rejects a path that no file can have.
func validatePath(name, path string) error {
	return field.If(path == "" || strings.ContainsRune(path, 0), name, "%q: want the path of a file", path)
}
