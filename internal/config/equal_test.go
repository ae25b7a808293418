package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/havip/havip/vrrp"
)

// edits of everything.yaml, each of which changes something.
var edits = [][2]string{
	{"level: debug", "level: info"},
	{"group: operators", "group: staff"},
	{"token: 0123", "token: 1123"},
	{"rise: 3", "rise: 5"},
	{"X-Check: \"1\"", "X-Check: \"2\""},
	{"300-399", "300-398"},
	{"path: /ready", "path: /live"},
	{"priority: 120", "priority: 121"},
	{"d0cker", "d0cked"},
	{"fedcba", "fedcbb"},
	{"weight: -20", "weight: -21"},
	{"log.sh, VI_1", "log.sh, VI_2"},
	{"routers: [VI_1, VI_6]", "routers: [VI_6, VI_1]"},
	{"balance: least-conn", "balance: random"},
	{"weight: 2}", "weight: 3}"},
	{"backup: true", "backup: false"},
	{"check: {type: tcp, interval: 2s}", "check: {type: tcp, interval: 3s}"},
	{"    check: {type: tcp, interval: 2s}", ""},
	{"name: shop1", "name: shop3"},
	{"drain: true", "drain: false"},
	{"queue_timeout: 4s", "queue_timeout: 5s"},
	{"tries: 2", "tries: 3"},
	{"rate: 2.5", "rate: 2"},
	{"min_version: \"1.3\"", "min_version: \"1.2\""},
	{"ca: /etc/havip/ca.pem, cert", "ca: /etc/havip/ca2.pem, cert"},
	{"Cookie: \"\"", "Cookie: x"},
	{"old.example.org", "older.example.org"},
	{"192.168.31.246:993", "192.168.31.248:993"},
	{"check: {type: tls}", "check: {type: tls, min_validity: 1h}"},
	{"responses: 1", "responses: 2"},
	{"example.org/xyz", "example.org/xyy"},
	{"token: t0ken", "token: t1ken"},
	{"password: s3cret", "password: s4cret"},
	{"boss@example.org", "chef@example.org"},
	{"on: [split, fault]", "on: [split]"},
	{"repeat: 1h", "repeat: 2h"},
}

// TestEqual: what moved in the file is equal, what changed is not.
func TestEqual(t *testing.T) {
	data, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string) *Config {
		t.Helper()
		c, err := pretend("other.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := everything(t), load("# moved\n\n"+strings.ReplaceAll(string(data), "name: ", "name:  "))
	same := func(a, b *Config) bool {
		ok := a.Log == b.Log && a.Admin.Equal(b.Admin)
		for i := range a.Checks {
			ok = ok && a.Checks[i].Equal(&b.Checks[i])
		}
		for i := range a.VRRP {
			ok = ok && a.VRRP[i].Equal(b.VRRP[i])
		}
		for i := range a.Groups {
			ok = ok && a.Groups[i].Equal(b.Groups[i])
		}
		for i := range a.Alarms {
			ok = ok && a.Alarms[i].Equal(b.Alarms[i])
		}
		for i := range a.Services {
			ok = ok && a.Services[i].Equal(b.Services[i])
		}
		return ok
	}
	if reflect.DeepEqual(a, b) {
		t.Error("positions did not change")
	}
	if !same(a, b) {
		t.Error("a file whose lines moved is not equal")
	}
	for _, edit := range edits {
		text := strings.Replace(string(data), edit[0], edit[1], 1)
		if text == string(data) {
			t.Fatalf("%q is not in the file", edit[0])
		}
		if same(a, load(text)) {
			t.Errorf("equal although %q became %q", edit[0], edit[1])
		}
	}
}

// TestDifferences: they are named as the keys are.
func TestDifferences(t *testing.T) {
	a := everything(t).VRRP[0]
	if got := a.Differences(a); got != nil {
		t.Errorf("the same differs in %q", got)
	}
	moved := a
	moved.Pos = Position{}
	if got := a.Differences(moved); got != nil {
		t.Errorf("another place in the file differs in %q", got)
	}
	seen := map[string]bool{}
	for _, r := range everything(t).VRRP {
		for _, k := range r.Differences(Router{VRRP: VRRP{Checksum: vrrp.ChecksumMessage}}) {
			seen[k] = true
		}
	}
	var none Router
	for _, k := range none.keys() {
		if !seen[k.name] {
			t.Errorf("%s: no difference to a router without it", k.name)
		}
		delete(seen, k.name)
	}
	if len(seen) > 0 {
		t.Errorf("no keys: %v", seen)
	}
}
