package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// fakeHost has one interface with three addresses, one of them virtual, and nothing
// that a configuration may need.
func fakeHost() Host {
	var addresses []netip.Addr
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.50"} {
		addresses = append(addresses, netip.MustParseAddr(a))
	}
	return Host{
		Interfaces: map[string][]netip.Addr{"lo": {netip.MustParseAddr("127.0.0.1")}, "eth0": addresses, "dummy0": nil},
		ReadFile: func(path string) ([]byte, error) {
			if strings.Contains(path, "none") {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return anyFile(), nil
		},
		Program: func(p Program) error {
			if strings.Contains(p.Path, "none") {
				return fmt.Errorf("not there for %s %s", p.Kind, p.Name)
			}
			return nil
		},
		FIFO: func(path string) error {
			if strings.Contains(path, "none") {
				return errors.New("no directory")
			}
			return nil
		},
		Folder: func(path string) error {
			if strings.Contains(path, "none") {
				return fmt.Errorf("no directory %s", path)
			}
			return nil
		},
		Port: func(port uint16) error {
			if port == 80 {
				return errors.New("port 80 is not for you")
			}
			return nil
		},
	}
}

// on is what a host lacks of a configuration, a line each.
func on(t *testing.T, h Host, text string) []string {
	t.Helper()
	c, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, p := range c.OnHost(h) {
		said = append(said, p.Error())
	}
	return said
}

// TestHostLacks: all that a machine lacks is named, each with its place in the file.
func TestHostLacks(t *testing.T) {
	got := on(t, fakeHost(), `checks:
  gone: {type: exec, command: [/none/check]}
  up: {type: interface, interface: eth7}
  tls: {type: tls, address: "192.0.2.7:443", tls: {ca: /none.pem, certificate: /some.pem, key: /none.key}}
  page: {type: http, tls: {ca: /none.pem}}
vrrp:
  - name: VI_1
    interface: eht0
    vrid: 51
    peers: [192.0.2.1]
    addresses: [192.0.2.50/24, {address: 192.0.2.51/24, interface: wan}]
    routes: [{to: 10.0.0.0/8, interface: tunnel}]
    notify: [/bin/true, /none/notify, {command: [/none/master], on: [master]}]
    notify_fifo: /none/fifo
    track: [{check: gone}, {check: up}, {check: tls}]
  - {name: VI_2, interface: eth0, vrid: 52, source: 192.0.2.9, peers: [192.0.2.7], addresses: [192.0.2.52]}
  - {name: VI_3, interface: dummy0, vrid: 53, addresses: [192.0.2.53]}
  - {name: VI_4, interface: eth0, vrid: 54, addresses: [fe80::54]}
groups: [{name: G, routers: [VI_1, VI_2], notify: [/none/group], notify_fifo: /none/groups}]
services:
  - {name: web, listen: "192.0.2.8:80", backends: ["192.0.2.7:80"], check: page}
  - {name: mine, listen: ":8080", backends: ["192.0.2.7:80", "192.0.2.1:8080", "[2001:db8::1]:8080"]}
  - {name: other, listen: ":8081", backends: ["192.0.2.1:8082"], check: {type: tls, tls: {ca: /none.pem}}}
  - {name: back, listen: ":8082", backends: ["192.0.2.1:8081"]}
  - name: logs
    listen: ":8083"
    backends: ["192.0.2.7:80"]
    access_log: {file: /var/none/web.log}
    http: {buffer_folder: /none/bodies}
    routes: [{name: up, paths: [/up/], http: {buffer_folder: /none/up}}]
  - {name: tcp, listen: ":8084", mode: tcp, backends: ["192.0.2.7:80"], access_log: {file: /none/tcp.log}}
`)
	want := []string{
		"f.yaml:2:31: checks.gone.command: /none/check: this machine cannot run it: not there for check gone",
		"f.yaml:3:36: checks.up.interface: eth7: no such interface on this machine: did you mean eth0?",
		"f.yaml:4:56: checks.tls.tls.ca: /none.pem: this machine cannot read it: file does not exist",
		"f.yaml:4:96: checks.tls.tls.key: /none.key: this machine cannot read it: file does not exist",
		"f.yaml:5:32: checks.page.tls.ca: /none.pem: this machine cannot read it: file does not exist",
		"f.yaml:8:16: vrrp[0].interface: eht0: no such interface on this machine: did you mean eth0?",
		"f.yaml:10:12: vrrp[0].peers: only addresses of this machine: nobody hears it: add the other nodes, or leave peers out for multicast",
		"f.yaml:11:68: vrrp[0].addresses[1].interface: wan: no such interface on this machine: it has dummy0, eth0, lo",
		"f.yaml:12:42: vrrp[0].routes[0].interface: tunnel: no such interface on this machine: it has dummy0, eth0, lo",
		"f.yaml:13:25: vrrp[0].notify[1]: /none/notify: this machine cannot run it: not there for router VI_1",
		"f.yaml:13:39: vrrp[0].notify[2]: /none/master: this machine cannot run it: not there for router VI_1",
		"f.yaml:14:18: vrrp[0].notify_fifo: /none/fifo: this machine cannot have it there: no directory",
		"f.yaml:16:53: vrrp[1].source: 192.0.2.9: not on eth0 of this machine: want one of its addresses, or leave it out",
		"f.yaml:17:29: vrrp[2].interface: dummy0: has no IPv4 address of its own on this machine to send from: give it one",
		"f.yaml:18:29: vrrp[3].interface: eth0: has no link-local IPv6 address of its own on this machine to send from: give it one",
		"f.yaml:19:52: groups[0].notify[0]: /none/group: this machine cannot run it: not there for group G",
		"f.yaml:19:79: groups[0].notify_fifo: /none/groups: this machine cannot have it there: no directory",
		"f.yaml:21:25: services[0].listen: 192.0.2.8: neither an address of this machine nor a virtual one of this file",
		"f.yaml:21:25: services[0].listen: port 80 is not for you",
		"f.yaml:22:62: services[1].backends[1]: 192.0.2.1:8080: this service itself: want another server",
		"f.yaml:22:80: services[1].backends[2]: [2001:db8::1]:8080: this service itself: want another server",
		"f.yaml:23:47: services[2].backends[0]: 192.0.2.1:8082: leads back to this service, by way of back: want another server",
		"f.yaml:23:95: services[2].check.tls.ca: /none.pem: this machine cannot read it: file does not exist",
		"f.yaml:24:46: services[3].backends[0]: 192.0.2.1:8081: leads back to this service, by way of other: want another server",
		"f.yaml:28:24: services[4].access_log.file: no directory /var/none: lines are lost until it can be written to",
		"f.yaml:29:27: services[4].http.buffer_folder: no directory /none/bodies: bodies of requests are streamed until it can be written to",
		"f.yaml:30:62: services[4].routes[0].http.buffer_folder: no directory /none/up: bodies of requests are streamed until it can be written to",
		"f.yaml:31:92: services[5].access_log.file: no directory /none: lines are lost until it can be written to",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestHostHasAll: nothing is said of what is there, of what comes with the addresses,
// nor of a list of peers that all nodes share.
func TestHostHasAll(t *testing.T) {
	got := on(t, fakeHost(), `checks:
  there: {type: exec, command: [/bin/true]}
  macvlan: {type: interface, interface: vrrp.52}
vrrp:
  - {name: VI_1, interface: eth0, vrid: 51, source: 192.0.2.1, peers: [192.0.2.2], addresses: [192.0.2.50/24], excluded: ["2001:db8::50/64"], track: [{check: there}, {check: macvlan}]}
  - {name: VI_2, interface: eth0, vrid: 52, virtual_mac: true, addresses: [192.0.2.51]}
  - {name: VI_3, interface: eth0, vrid: 53, peers: [192.0.2.1, 192.0.2.2], addresses: [192.0.2.52]}
  - {name: VI_4, interface: eth0, vrid: 54, peers: ["2001:db8::2"], addresses: ["fe80::54"]}
services:
  - {name: a, listen: ":8080", backends: ["192.0.2.2:8080", "192.0.2.1:8081"]}
  - {name: b, listen: "192.0.2.1:8082", backends: ["192.0.2.7:80"]}
  - {name: c, listen: "192.0.2.52:8082", backends: ["192.0.2.7:80"]}
  - {name: d, listen: "[2001:db8::50]:8082", backends: ["192.0.2.7:80"]}
  - {name: e, listen: "127.0.0.1:8082", backends: ["192.0.2.1:8083"]}
  - {name: f, listen: "127.0.0.1:8083", backends: ["192.0.2.7:80"], access_log: {file: /var/log/f.log}, http: {buffer_folder: /var/tmp}}
`)
	if len(got) > 0 {
		t.Errorf("said %s", strings.Join(got, "\n"))
	}
}
