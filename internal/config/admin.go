package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Off, in the place of a path, turns off what would be there.
const Off = "off"

// DefaultSocket is where the commands look for the daemon.
const DefaultSocket = "/run/havip/havip.sock"

// defaultState is the folder of what outlives a restart.
const defaultState = "/var/lib/havip"

// Admin says how a running havip can be asked and steered.
type Admin struct {
	Socket string // path, or Off; empty: see SocketPath
	Group  string // name or number; empty: none
	// Listen is where TCP is served. Without a port: nowhere.
	Listen netip.AddrPort
	// Hostnames are those that clients of Listen may call this host by.
	Hostnames []string
	TLS       *AdminTLS // of Listen; nil: none
	Token     Secret    // who has it may steer; none: nobody has
	PProf     bool
	State     string // folder, or Off; empty: see StateFolder
}

// AdminTLS says how connections to Admin.Listen are encrypted.
type AdminTLS struct {
	Certificate string // path
	Key         string // path
	ClientCA    string // path; empty: clients need no certificate, and one gives no rights
	Digest      string // as in TLS
}

// SocketPath is the path of the socket: the file's, that of the environment variable
// HAVIP_SOCKET, which is also the commands', or DefaultSocket. Empty: there is none.
func (a Admin) SocketPath() string { return pathOr(a.Socket, os.Getenv("HAVIP_SOCKET"), DefaultSocket) }

// StateFolder is the folder of what outlives a restart: the file's, the one that systemd
// names in STATE_DIRECTORY, or /var/lib/havip. Empty: nothing does.
func (a Admin) StateFolder() string {
	first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return pathOr(a.State, first, defaultState)
}

// pathOr is the first text that is not empty; of Off it makes none.
func pathOr(paths ...string) string {
	for _, p := range paths {
		switch p {
		case "":
		case Off:
			return ""
		default:
			return p
		}
	}
	return ""
}

// Equal reports whether both mean the same.
func (a Admin) Equal(o Admin) bool { return reflect.DeepEqual(a, o) }

// MaxSocketPath is the longest path that a Unix socket can have (sun_path less its NUL).
const MaxSocketPath = 107

// socketPath is the absolute path of a Unix socket, or off.
func socketPath(to *string) value {
	return text(to, "an absolute path of at most 107 bytes, or off", func(s string) bool {
		return s == Off || filepath.IsAbs(s) && len(s) <= MaxSocketPath && !strings.ContainsRune(s, 0)
	})
}

// minToken is the shortest token that nobody guesses.
const minToken = 16

// validateAdmin checks the keys of admin against one another, and its port against those
// of the services.
func (d *decoder) validateAdmin(c *Config) {
	a, path := &c.Admin, "admin"
	if !a.Listen.IsValid() && a.Listen.Port() == 0 {
		for _, k := range []string{"hostnames", "tls", "token"} {
			if d.given(join(path, k)) && !d.failed(path+".listen") {
				d.warn(join(path, k), "does nothing without listen: add listen, or leave it out")
			}
		}
	}
	if a.Group != "" && a.Socket == Off {
		d.warn(path+".group", "does nothing with socket: off: leave it out")
	}
	d.validateAdminTLS(a.TLS, path+".tls")
	d.validateToken(a, path+".token")
	for i := range c.Services {
		s, own := &c.Services[i], &Service{Listen: a.Listen}
		if s.Network() == "tcp" && a.Listen.Port() != 0 && s.Listen.Port() == a.Listen.Port() && s.rivals(own) {
			d.fail(path+".listen", "in use by services[%v]: each needs its own", i)
		}
	}
}

func (d *decoder) validateAdminTLS(t *AdminTLS, path string) {
	if t == nil {
		return
	}
	m := d.material()
	d.certificate(m, t.Certificate, &t.Key, path)
	m.authorities(t.ClientCA, path+".client_ca")
	t.Digest = m.digest()
}

// validateToken judges the token itself, and the way that it travels. No message has it.
func (d *decoder) validateToken(a *Admin, path string) {
	token := a.Token.Reveal()
	if token == "" {
		return
	}
	printable := func(r rune) bool { return r > ' ' && r < 0x7f }
	switch {
	case strings.ContainsFunc(token, func(r rune) bool { return !printable(r) }):
		d.fail(path, "%v", own("want ASCII characters without spaces: it travels in a header"))
	case len(token) < minToken:
		d.fail(path, "%v", own(fmt.Sprintf("want at least %d characters, such as openssl rand -hex 16 makes", minToken)))
	case a.TLS == nil && a.Listen.Port() != 0 && !a.Listen.Addr().IsLoopback() && !d.failed("admin.tls"):
		d.warn(path, "%v", own("without tls it travels in clear: add tls, or listen on 127.0.0.1"))
	}
}

// admin reports what the machine lacks of what the section needs.
func (v *visit) admin() {
	a, path := v.Admin, "admin"
	if a.Group != "" && v.Group != nil {
		if err := v.Group(a.Group); err != nil {
			v.find(path+".group", "%s: %v", show(a.Group), err)
		}
	}
	if a.Listen.Port() != 0 {
		v.listen(a.Listen, path+".listen")
	}
}

func absoluteOrOff(s string) bool { return s == Off || filepath.IsAbs(s) }
