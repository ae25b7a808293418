package lb

import (
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// maxOptions bounds the names in Connection that are looked at: each is compared with all
// fields.
const maxOptions = 100

// readOptions appends the names of fields that a message gives by Connection as those of the
// connection only (RFC 9110 §7.6.1), but for those that concern any connection, and as many
// as there may be. The client may remove headers in that way, but none that are added here.
func readOptions(options []string, fields []h1.Field, has h1.Set) []string {
	if !holds(has, h1.Connection) {
		return options
	}
	for i := range fields {
		if fields[i].ID != h1.Connection {
			continue
		}
		for item := range strings.SplitSeq(fields[i].Value, ",") {
			switch item = strings.TrimSpace(item); h1.IDOf(item) {
			case h1.KeepAlive, h1.Upgrade, h1.TE:
			default:
				if item != "" && len(options) < maxOptions {
					options = append(options, item)
				}
			}
		}
	}
	return options
}

// isOption reports whether Connection names the field.
func (x *exchange) isOption(f *h1.Field) bool {
	for _, name := range x.options {
		if h1.EqualName(name, f.Name) {
			return true
		}
	}
	return false
}

// readUpgrades reads the protocols to which the client offers to switch. HTTP/1.0 has none
// (RFC 9110 §7.8), and those of HTTP/2 are different.
func (x *exchange) readUpgrades() {
	x.upgrades = x.upgrades[:0]
	offers := x.major == 1 && x.req.Minor > 0 || x.socket != ""
	if offers && x.cfg.BackendProtocol == BackendHTTP1 && holds(x.req.Has, h1.Upgrade) {
		x.upgrades = appendUpgrades(x.upgrades, x.req.Fields)
	}
}

// appendUpgrades appends the protocols to which a message offers to switch. Those that would
// carry requests past all checks of this package are left out.
func appendUpgrades(protocols []string, fields []h1.Field) []string {
	if !anyToken(fields, h1.Connection, "Upgrade") {
		return protocols
	}
	for i := range fields {
		if fields[i].ID != h1.Upgrade {
			continue
		}
		for p := range strings.SplitSeq(fields[i].Value, ",") {
			p = strings.TrimSpace(p)
			name, _, _ := strings.Cut(p, "/")
			if name != "" && !strings.EqualFold(name, "h2c") && !strings.EqualFold(name, "http") && !strings.EqualFold(name, "tls") {
				protocols = append(protocols, p)
			}
		}
	}
	return protocols
}

// anyToken reports whether a token is in the lists of the fields of an ID.
func anyToken(fields []h1.Field, id h1.ID, token string) bool {
	for i := range fields {
		if fields[i].ID == id && h1.HasToken(fields[i].Value, token) {
			return true
		}
	}
	return false
}
