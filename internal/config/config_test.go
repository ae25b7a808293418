package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata")

// badCase is one entry of testdata/bad.txt: a file and what is said about it.
type badCase struct{ name, input, want string }

// readBad splits testdata/bad.txt: "=== name", the file, "--- says", its error
// lines.
func readBad(t *testing.T) []badCase {
	t.Helper()
	data, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []badCase
	for entry := range strings.SplitSeq(string(data), "=== ") {
		name, rest, _ := strings.Cut(entry, "\n")
		input, want, _ := strings.Cut(rest, "--- says\n")
		if name != "" {
			cases = append(cases, badCase{name, input, want})
		}
	}
	return cases
}

// TestRouterWithoutAddresses: addresses may be left out, where something else
// moves, and the family comes from what else is there. A router that moves
// nothing at all is warned of.
func TestRouterWithoutAddresses(t *testing.T) {
	const idle = "does nothing: add addresses, or notify if something else moves"
	for _, tc := range []struct {
		keys, rest string
		ipv6       bool
		warning    string
	}{
		{keys: "notify: [/bin/true]"},
		{keys: "notify_fifo: /run/havip/fifo, family: ipv6", ipv6: true},
		{keys: `notify: [/bin/true], peers: ["fe80::2"]`, ipv6: true},
		{keys: `notify: [/bin/true], source: "fe80::2", family: ipv6`, ipv6: true},
		{keys: `excluded: [192.0.2.1, "2001:db8::1"]`},
		{keys: "routes: [{to: 192.0.2.0/24}]"},
		{keys: "virtual_mac: true, version: 2", warning: idle},
		{rest: "groups: [{name: G, routers: [a]}]"},
	} {
		c, err := Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, "+tc.keys+"}]\n"+tc.rest))
		if err != nil {
			t.Errorf("%s: %v", tc.keys, err)
			continue
		}
		if got := c.VRRP[0].IPv6(); got != tc.ipv6 {
			t.Errorf("%s: IPv6 %v, want %v", tc.keys, got, tc.ipv6)
		}
		if got := fmt.Sprint(c.Warnings); tc.warning == "" && len(c.Warnings) > 0 || !strings.Contains(got, tc.warning) {
			t.Errorf("%s: warnings %s, want %q", tc.keys, got, tc.warning)
		}
	}
}

// TestStartDelayUptimeAlone: what counts only for a start delay is warned of where
// there is none.
func TestStartDelayUptimeAlone(t *testing.T) {
	for keys, want := range map[string]string{
		"start_delay_uptime: 5m":                  "[f.yaml:1:89: vrrp[0].start_delay_uptime: 5m: does nothing without start_delay: leave it out]",
		"start_delay_uptime: 5m, start_delay: 1s": "[]",
	} {
		c, err := Parse("f.yaml", []byte("vrrp: [{name: a, interface: eth0, vrid: 51, addresses: [192.0.2.1], "+keys+"}]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.Warnings); got != want {
			t.Errorf("%s: warnings %s, want %s", keys, got, want)
		}
	}
}

// TestResolveOfAnAddress: what counts only for a name is warned of where there is none.
func TestResolveOfAnAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80":          "[f.yaml:1:83: services[0].backends[0].resolve: first: does nothing: the address is no name]",
		"app.example.org:80":    "[]",
		"_app._tcp.example.org": "[]",
	} {
		c, err := Parse("f.yaml", []byte(`services: [{name: a, listen: ":80", backends: [{address: "`+address+`", resolve: first}]}]`))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.Warnings); got != want {
			t.Errorf("%s: warnings %s, want %s", address, got, want)
		}
	}
}

// TestBadInput: each mistake gives exactly the lines in testdata/bad.txt.
func TestBadInput(t *testing.T) {
	var golden strings.Builder
	for _, c := range readBad(t) {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(c.input))
			if err == nil {
				t.Fatal("accepted")
			}
			if errs := (Errors)(nil); !errors.As(err, &errs) {
				t.Errorf("error is a %T, want Errors", err)
			}
			got := err.Error() + "\n"
			fmt.Fprintf(&golden, "=== %s\n%s--- says\n%s", c.name, c.input, got)
			if got != c.want && !*update {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
	if *update {
		if err := os.WriteFile("testdata/bad.txt", []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const router = "{name: a, interface: eth0, vrid: 51, addresses: [192.0.2.1]}"

// TestBytes: files that differ below the level of YAML.
func TestBytes(t *testing.T) {
	deep := strings.Repeat("[", 9000)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 {x: y}\n")
	for i := 1; i < 15; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d {<<: [%s]}\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 20), ","))
	}
	var line strings.Builder
	for i := range 250_000 {
		fmt.Fprintf(&line, "n%d,", i)
	}
	var circle strings.Builder
	circle.WriteString("services:\n")
	for i := range 10_000 {
		fmt.Fprintf(&circle, "  - {name: n%d, listen: \":%d\", backends: [127.0.0.1:%d]}\n", i, i+1, (i+1)%10_000+1)
	}
	for _, c := range []struct{ name, input, want string }{
		{"LF", "vrrp:\n  - " + router + "\n", ""},
		{"CRLF", "vrrp:\r\n  - " + router + "\r\n", ""},
		{"no line end", "vrrp: [" + router + "]", ""},
		{"BOM", "\ufeffvrrp:\n  - " + router + "\n", ""},
		{"document marker", "---\nvrrp:\n  - " + router + "\n...\n", ""},
		{"tab after a key", "vrrp:\t\n  - " + router + "\n", ""},
		{"tab as indentation", "vrrp:\n\t- " + router + "\n", "f.yaml:2:1: a tab: YAML wants spaces for indentation"},
		{"tab after spaces", "vrrp:\n  - name: a\n  \t interface: eth0\n", "f.yaml:3:3: a tab: YAML wants spaces for indentation"},
		{"tab in a text, mistake elsewhere", "log: \"a\n \tb\"\nvrrp: [\n", "f.yaml:3:1: not YAML from here on"},
		{"positions with CRLF", "vrrp:\r\n  - name: a\r\n    vrrid: 1\r\n", "f.yaml:2:5: vrrp[0].interface: missing"},
		{"positions after a BOM", "\ufeffvrid: 1\n", "f.yaml:1:1: vrid: unknown key"},
		{"empty", "", "f.yaml:1:1: the file is empty"},
		{"spaces", " \n\n", "f.yaml:1:1: the file is empty"},
		{"BOM only", "\ufeff", "f.yaml:1:1: the file is empty"},
		{"UTF-16", "\xff\xfev\x00r\x00", "f.yaml:1:1: not UTF-8"},
		{"Latin-1", "vrrp:\n  - name: M\xfcnchen\n", "f.yaml:2:12: not UTF-8"},
		{"NUL", "vrrp:\x00", "f.yaml:1:1: not YAML from here on: control characters are not allowed"},
		{"huge", strings.Repeat("#", maxSize+1), "f.yaml:1:1: larger than 4 MiB"},
		{"deep", "vrrp: " + deep, "f.yaml:1:1: not YAML from here on"},
		{"merge bomb", bomb.String() + "vrrp:\n  - <<: *a14\n", "more than 200000 values"},
		{"one long line", "services: [{name: é, routes: [{server_names: [" + line.String() + "]}]}]", "more than 200000 values"},
		{"services in one long circle", circle.String(), "by way of n1, n2, n3, n4, n5, n6, n7, n8, n9, n10 and 9989 more"},
		{"many mistakes", strings.Repeat("x:\n", 1) + "vrrp:\n" + strings.Repeat("  - {name: a b}\n", 1000), "and more: fix these first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := labtest.OwnTime()
			_, err := Parse("f.yaml", []byte(c.input))
			if took := labtest.OwnTime() - before; took > 4*time.Minute { // with the race detector a slow machine takes 45 s
				t.Errorf("took %v of processor time", took)
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
			if err != nil && strings.Count(err.Error(), "\n") > maxProblems {
				t.Errorf("%d lines", strings.Count(err.Error(), "\n"))
			}
		})
	}
}

// TestLoadFile: what the system says about a file is not taken for a mistake
// in it.
func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir + "/none.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir); err == nil || errors.As(err, new(Errors)) {
		t.Errorf("directory: %v", err)
	}
	huge := dir + "/huge.yaml"
	if err := os.WriteFile(huge, bytes.Repeat([]byte("#"), maxSize+10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(huge); !errors.As(err, new(Errors)) {
		t.Errorf("huge file: %v", err)
	}
}
