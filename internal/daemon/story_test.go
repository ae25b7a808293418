package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab/labtest"
)

// logRecord is a line of a log in JSON.
type logRecord map[string]any

// records are those of a log for which f returns something, and what it returns.
func records(t *testing.T, log string, f func(logRecord) string) (out []string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var r logRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if s := f(r); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// TestCausesComeFirst: the log of a service whose backend dies tells first that the
// check has failed and why, then that the backend is down, for the same reason, and
// then what that means for the service; and so when it comes back.
func TestCausesComeFirst(t *testing.T) {
	address := "127.0.0.1:" + freePort(t)
	open := func() net.Listener {
		t.Helper()
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	backend := open()
	out := &labtest.Log{}
	log, err := NewLog(out, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	startLogging(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: tcp, backends: ["%s"],
		check: {type: tcp, interval: 10ms, timeout: 1s, long_timeout: true, rise: 1, fall: 1}}]`, freePort(t), address), log.Logger)
	said := func(word string, times int) func() bool {
		return func() bool { return strings.Count(out.String(), word) == times }
	}
	until(t, "the check is up", said("check is up", 1))
	const times = 10
	for i := range times {
		backend.Close()
		until(t, "the service is lost", said("pool has no working backends", i+1))
		backend = open()
		until(t, "the service is back", said("pool has working backends again", i+1))
	}
	backend.Close()
	until(t, "the service is lost for good", said("pool has no working backends", times+1))

	why := fmt.Sprintf("tcp %s: ", address)
	got := records(t, out.String(), func(r logRecord) string {
		switch msg := fmt.Sprint(r["msg"]); msg {
		case "check is up", "check is down", "backend is up", "backend is down", "pool has no working backends", "pool has working backends again":
			if text, ok := r["err"].(string); ok && strings.Contains(text, why) {
				msg += ", because"
			}
			return fmt.Sprint(r["level"], " ", msg)
		}
		return ""
	})
	down := []string{"WARN check is down, because", "WARN backend is down, because", "ERROR pool has no working backends"}
	want := []string{"INFO check is up"}
	for range times {
		want = append(append(want, down...), "INFO check is up", "INFO backend is up", "INFO pool has working backends again")
	}
	if want = append(want, down...); !slices.Equal(got, want) {
		t.Errorf("the log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestReloadExplained: at level debug a reload says what becomes of each part.
func TestReloadExplained(t *testing.T) {
	a, b, c := freePort(t), freePort(t), freePort(t)
	service := func(name, port, rest string) string {
		return fmt.Sprintf(`{name: %s, listen: "127.0.0.1:%s", mode: tcp, backends: ["127.0.0.1:9"]%s}`, name, port, rest)
	}
	out := &labtest.Log{}
	log, err := NewLog(out, config.Log{Level: "debug", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	const check = `%s: {type: tcp, address: "127.0.0.1:9", interval: %s, timeout: 1s}`
	d := startLogging(t, "services: ["+service("same", a, "")+", "+service("other", b, "")+"]\nchecks: {"+
		fmt.Sprintf(check, "one", "1h")+", "+fmt.Sprintf(check, "two", "1h")+"}", log.Logger)
	if err := d.Reconfigure(parse(t, "services: ["+service("same", a, "")+", "+service("other", b, ", balance: random")+", "+service("new", c, "")+"]\nchecks: {"+
		fmt.Sprintf(check, "one", "30m")+"}")); err != nil {
		t.Fatal(err)
	}
	if err := d.Reconfigure(parse(t, "services: ["+service("same", a, "")+"]")); err != nil {
		t.Fatal(err)
	}
	flush(t, log)
	got := records(t, out.String(), func(r logRecord) string {
		msg, _ := strings.CutPrefix(fmt.Sprint(r["msg"]), "reload: ")
		if r["msg"] == msg {
			return ""
		}
		for _, kind := range []string{"service", "check", "router"} {
			if r[kind] != nil {
				msg += " " + fmt.Sprint(r[kind])
			}
		}
		return fmt.Sprint(r["level"], " ", msg)
	})
	want := []string{
		"DEBUG check starts anew one", "DEBUG check ends two",
		"DEBUG service stays as it is same", "DEBUG service changes in place other", "DEBUG service is new new",
		"DEBUG check ends one",
		"DEBUG service stays as it is same", "DEBUG service ends other", "DEBUG service ends new",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
