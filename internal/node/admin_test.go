package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/report"
)

// asking is an HTTP client of a socket.
func asking(socket string) *http.Client {
	return &http.Client{Timeout: bound, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

// ask returns the status and the text of an answer; 0: nobody answers.
func ask(t *testing.T, socket, method, path, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://havip"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := asking(socket).Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(all)
}

// socketFolder is a folder with a short name.
func socketFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "havip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestAdminFollowsTheFile: a node answers on the socket of its file, and goes to that of the
// next file; a file that is wrong changes nothing.
func TestAdminFollowsTheFile(t *testing.T) {
	dir := socketFolder(t)
	service := fmt.Sprintf("services: [{name: web, listen: %q, backends: [\"127.0.0.1:1\"]}]\n", lab.FreeAddress(t))
	file := func(socket, rest string) string {
		return fmt.Sprintf("admin: {socket: %s, state: off%s}\n%s", filepath.Join(dir, socket), rest, service)
	}
	n := startNode(t, file("a", ""), here)
	lab.Until(t, bound, "a answers", func() bool {
		status, _ := ask(t, filepath.Join(dir, "a"), "GET", "/api/v1/status", "")
		return status == 200
	})
	n.write(file("b", ", listen: wrong"))
	if status, text := ask(t, filepath.Join(dir, "a"), "POST", "/api/v1/reload", ""); status != 409 || !strings.Contains(text, "admin.listen") {
		t.Errorf("a reload of a wrong file: %d %s", status, text)
	}
	if status, _ := ask(t, filepath.Join(dir, "a"), "GET", "/healthz", ""); status != 200 {
		t.Errorf("after a wrong file: %d", status)
	}
	n.write(file("b", ""))
	if status, text := ask(t, filepath.Join(dir, "a"), "POST", "/api/v1/reload", ""); status != 200 {
		t.Errorf("the reload that moves the socket, asked for on the old one: %d %s", status, text)
	}
	lab.Until(t, bound, "b answers, and a does not", func() bool {
		old, _ := ask(t, filepath.Join(dir, "a"), "GET", "/healthz", "")
		next, _ := ask(t, filepath.Join(dir, "b"), "GET", "/healthz", "")
		return old == 0 && next == 200
	})
}

// TestLogLevelByCommand stays over reloads, until the file itself says another level.
func TestLogLevelByCommand(t *testing.T) {
	dir := socketFolder(t)
	socket := filepath.Join(dir, "s")
	file := func(level string) string {
		return fmt.Sprintf("log: {level: %s}\nadmin: {socket: %s, state: off}\nservices: [{name: web, listen: %q, backends: [\"127.0.0.1:1\"]}]\n", level, socket, lab.FreeAddress(t))
	}
	n := startNode(t, file("info"), here)
	lab.Until(t, bound, "it answers", func() bool { status, _ := ask(t, socket, "GET", "/healthz", ""); return status == 200 })
	level := func(what, want, changes string) {
		t.Helper()
		_, text := ask(t, socket, "GET", "/api/v1/status", "")
		var s struct {
			Node struct {
				LogLevel string `json:"log_level"`
				Changes  []struct{ Kind, Value, File string }
			}
		}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.Node.Changes); s.Node.LogLevel != want || got != changes {
			t.Errorf("%s: level %s, changes %s, want %s, %s", what, s.Node.LogLevel, got, want, changes)
		}
	}
	do := func(method, path, body string, want int) {
		t.Helper()
		if status, text := ask(t, socket, method, path, body); status != want {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
	level("at first", "info", "[]")
	do("PUT", "/api/v1/log", `{"level": "warn"}`, 204)
	level("by command", "warn", "[{log warn info}]")
	n.write(file("info"))
	do("POST", "/api/v1/reload", "", 200)
	level("after a reload of the same level", "warn", "[{log warn info}]")
	n.write(file("error"))
	do("POST", "/api/v1/reload", "", 200)
	level("after a reload of another level", "error", "[]")
	do("PUT", "/api/v1/log", `{"level": "error"}`, 204)
	level("the file's level by command", "error", "[]")
	do("PUT", "/api/v1/log", `{"level": "loud"}`, 400)
	level("a wrong level", "error", "[]")
	do("PUT", "/api/v1/log", `{"level": "info"}`, 204)
	do("DELETE", "/api/v1/log", "", 204)
	level("the file's level again", "error", "[]")
}

// TestMaintenanceIsOneEvent: a maintenance begins with one event, which says who asked for
// it, why, and what is less than was asked for, and it ends with one.
func TestMaintenanceIsOneEvent(t *testing.T) {
	socket := filepath.Join(socketFolder(t), "s")
	n := startNode(t, fmt.Sprintf("admin: {socket: %s, state: off}\nservices: [{name: web, listen: %q, backends: [\"127.0.0.1:1\"]}]\n", socket, lab.FreeAddress(t)), here)
	lab.Until(t, bound, "it answers", func() bool { status, _ := ask(t, socket, "GET", "/healthz", ""); return status == 200 })
	for _, body := range []string{`{"on": true, "reason": "new disks"}`, `{"on": false}`} {
		if status, text := ask(t, socket, "PUT", "/api/v1/maintenance", body); status != 200 {
			t.Fatalf("%s: %d %s", body, status, text)
		}
	}
	if status, text := ask(t, socket, "PUT", "/api/v1/maintenance", `{"on": true, "reason": "`+strings.Repeat("x", 201)+`"}`); status != 400 || !strings.Contains(text, "up to 200 bytes") {
		t.Errorf("a reason that is too long: %d %s", status, text)
	}
	n.has(t, report.KindControl, "not steered")
	by := fmt.Sprintf("by=user %d, process %d", os.Geteuid(), os.Getpid())
	want := []string{
		"steered (new disks) what=maintenance on warning=a restart ends it: admin.state is off " + by,
		"steered () what=maintenance off " + by,
		"not steered (the reason is not valid: want up to 200 bytes of text on one line) what=maintenance on " + by,
	}
	var got []string
	events, _, _ := n.Events().After(0)
	for _, e := range events {
		if e.Kind != report.KindControl {
			continue
		}
		line := fmt.Sprintf("%s (%s)", e.Message, e.Cause)
		for _, a := range e.Attributes {
			line += " " + a.Key + "=" + a.Value
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
