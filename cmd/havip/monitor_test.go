package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMonitorExitCode: 0 without problems, 1 with some, and 2 where nothing could be
// watched, so that a script can tell these apart.
func TestMonitorExitCode(t *testing.T) {
	const recorded = "../../internal/monitor/testdata/"
	cut, err := os.ReadFile(recorded + "ah.pcap")
	if err != nil {
		t.Fatal(err)
	}
	cut = cut[:len(cut)-5]
	for _, tc := range []struct {
		args string
		code int
		text string // of the error, or else of the output
	}{
		{"-r " + recorded + "ah.pcap", 0, "no problems"},
		{"-q -r " + recorded + "wrong-version.pcap", 1, "problems found: "},
		{"-o json -r " + recorded + "nobody-left.pcap", 1, "problems found: 1"},
		{"-r -", 2, "standard input: the file ends in the middle of a frame"},
		{"-r nowhere.pcap", 2, "nowhere.pcap: no such file"},
		{"-r .", 2, "a directory: want a file of tcpdump -w or Wireshark"},
		{"-r monitor.go", 2, "monitor.go: not a capture: want a file"},
		{"-r x -i eth0", 2, "--interface and --read: use one or the other"},
		{"-r x -o xml", 2, `--output "xml": want text or json`},
		{"-r x --count 0", 2, "--count 0: want 1 or more"},
		{"-r x --every 1ms", 2, "--every 1ms: want 10ms or more"},
		{"-r x --duration -1s", 2, "--duration -1s: want more than 0"},
		{"-r x y", 2, `unexpected argument "y"`},
	} {
		var out bytes.Buffer
		app := newApp()
		app.Reader, app.Writer, app.ErrWriter = bytes.NewReader(cut), &out, io.Discard
		code := 0
		err := app.Run(append([]string{"havip", "monitor"}, strings.Fields(tc.args)...))
		if err != nil {
			code = exitCode(err)
			out.WriteString(err.Error())
		}
		if code != tc.code || !strings.Contains(out.String(), tc.text) {
			t.Errorf("havip monitor %s: exit code %d, want %d and %q:\n%s", tc.args, code, tc.code, tc.text, &out)
		}
	}
}
