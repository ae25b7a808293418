package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestAdminWarnings: what of the admin section is allowed and yet unlikely to do what
// was meant.
func TestAdminWarnings(t *testing.T) {
	const services = "\nservices: [{name: web, listen: \":80\", backends: [\"192.0.2.7:80\"]}]\n"
	for _, c := range []struct{ name, admin, want string }{
		{"nothing", "{}", "[]"},
		{"a token on loopback", `{listen: "127.0.0.1:9650", token: 0123456789abcdef}`, "[]"},
		{"a token on IPv6 loopback", `{listen: "[::1]:9650", token: 0123456789abcdef}`, "[]"},
		{"a token in clear", `{listen: "192.0.2.1:9650", token: 0123456789abcdef}`,
			"[f.yaml:1:42: admin.token: without tls it travels in clear: add tls, or listen on 127.0.0.1]"},
		{"a token in clear on all addresses", `{listen: ":9650", token: 0123456789abcdef}`,
			"[f.yaml:1:33: admin.token: without tls it travels in clear: add tls, or listen on 127.0.0.1]"},
		{"reading in clear", `{listen: ":9650"}`, "[]"},
		{"a token in TLS", `{listen: ":9650", token: 0123456789abcdef, tls: {certificate: /a.pem}}`, "[]"},
		{"without listen", `{token: 0123456789abcdef, hostnames: [a.example.org], tls: {certificate: /a.pem}}`,
			"[f.yaml:1:16: admin.token: does nothing without listen: add listen, or leave it out" +
				" f.yaml:1:45: admin.hostnames: does nothing without listen: add listen, or leave it out" +
				" f.yaml:1:67: admin.tls: does nothing without listen: add listen, or leave it out]"},
		{"a group without a socket", `{socket: off, group: havip}`, "[f.yaml:1:29: admin.group: does nothing with socket: off: leave it out]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := pretend("f.yaml", []byte("admin: "+c.admin+services))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(cfg.Warnings); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestAdminPaths: the file comes before the environment, and that before the default.
func TestAdminPaths(t *testing.T) {
	for _, c := range []struct{ file, socket, state, wantSocket, wantState string }{
		{"", "", "", DefaultSocket, defaultState},
		{"", "/run/x.sock", "/var/lib/x", "/run/x.sock", "/var/lib/x"},
		{"", Off, Off, "", ""},
		{"", "", "/var/lib/x:/var/lib/y", DefaultSocket, "/var/lib/x"},
		{"/a", "/run/x.sock", "/var/lib/x", "/a", "/a"},
		{"/a", Off, Off, "/a", "/a"},
		{Off, "/run/x.sock", "/var/lib/x", "", ""},
	} {
		t.Setenv("HAVIP_SOCKET", c.socket)
		t.Setenv("STATE_DIRECTORY", c.state)
		a := Admin{Socket: c.file, State: c.file}
		if socket, state := a.SocketPath(), a.StateFolder(); socket != c.wantSocket || state != c.wantState {
			t.Errorf("%+v: %q, %q", c, socket, state)
		}
	}
}

// TestAdminOnHost: a group and an address that the machine lacks are named.
func TestAdminOnHost(t *testing.T) {
	h := fakeHost()
	h.Group = func(name string) error {
		if name == "none" {
			return errors.New("no such group")
		}
		return nil
	}
	c, err := pretend("f.yaml", []byte(`admin: {group: none, listen: "192.0.2.8:80"}
services: [{name: web, listen: ":8080", backends: ["192.0.2.7:80"]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.OnHost(h) {
		got = append(got, p.Error())
	}
	want := []string{
		"f.yaml:1:16: admin.group: none: no such group",
		"f.yaml:1:30: admin.listen: 192.0.2.8: neither an address of this machine nor a virtual one of this file",
		"f.yaml:1:30: admin.listen: port 80 is not for you",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
