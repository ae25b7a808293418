package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
)

// fetch returns what is answered on a port of loopback: the status and the body.
func fetch(t *testing.T, port string) string {
	t.Helper()
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://127.0.0.1:" + port + "/")
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(res.StatusCode, " ", string(content))
}

// TestPagesAreReloaded: the content of a page is that of its file when the configuration came
// into force. A file that is bad by then changes nothing.
func TestPagesAreReloaded(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "sorry.html"), freePort(t)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: http, backends: ["%s"], http: {maintenance: true, maintenance_page: {file: %s}}}]`,
		port, webServer(t, "a"), file)
	d := startDaemon(t, text)
	shows := func(want string) {
		t.Helper()
		if got := fetch(t, port); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	shows("503 one")
	write("two")
	shows("503 one")
	mustReload(t, d, text)
	shows("503 two")
	for name, spoil := range map[string]func(){
		"huge":        func() { write(strings.Repeat("x", 1<<20+1)) },
		"a folder":    func() { os.Mkdir(file, 0o700) },
		"not there":   func() {},
		"not regular": func() { os.Symlink("/dev/zero", file) },
	} {
		os.Remove(file)
		write("good")
		cfg := parse(t, text)
		os.Remove(file)
		spoil()
		if _, err := config.Parse("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "f.yaml:1:") || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Reconfigure(cfg); err == nil || !strings.Contains(err.Error(), "nothing changed: f.yaml:1:") || !strings.Contains(err.Error(), file) {
			t.Errorf("%s, after it was checked: %v", name, err)
		}
		shows("503 two")
	}
}

// TestPageThatComesLate: a service whose file is not there at boot begins when it is.
func TestPageThatComesLate(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "sorry.html"), freePort(t)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: http, backends: ["%s"], http: {error_pages: [{statuses: [503], file: %s}], maintenance: true}}]`,
		port, webServer(t, "a"), file))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	startFrom(t, cfg, slog.New(slog.DiscardHandler))
	if got := fetch(t, port); !strings.Contains(got, "refused") {
		t.Errorf("without its file: %q", got)
	}
	if err := os.WriteFile(file, []byte("late"), 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 20*time.Second, "the service to serve", func() bool { return fetch(t, port) == "503 late" })
}

// TestUsersAreReloaded: who may log in is what the file says when the configuration comes into
// force, and a password that was right before does not stay so. A file that is bad by then
// changes nothing, and the error names it, but no password.
func TestUsersAreReloaded(t *testing.T) {
	const hash = ":{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" // secret
	file, port := filepath.Join(t.TempDir(), "htpasswd"), freePort(t)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ann" + hash)
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: http, backends: ["%s"], http: {basic_auth: {file: %s}}}]`, port, webServer(t, "a"), file)
	d := startDaemon(t, text)
	logins := func(ann, bob int) {
		t.Helper()
		for user, want := range map[string]int{"ann": ann, "bob": bob, "": 401} {
			url := "http://127.0.0.1:" + port + "/"
			if user != "" {
				url = strings.Replace(url, "//", "//"+user+":secret@", 1)
			}
			res, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s: %d, want %d", user, res.StatusCode, want)
			}
		}
	}
	logins(200, 401)
	write("bob" + hash)
	logins(200, 401)
	mustReload(t, d, text)
	logins(401, 200)
	for name, spoil := range map[string]func(){
		"plain text":     func() { write("ann:secret\n") },
		"no text":        func() { write("\x00\x01\xff") },
		"huge":           func() { write(strings.Repeat("#", 1<<20+1)) },
		"a folder":       func() { os.Mkdir(file, 0o700) },
		"a device":       func() { os.Symlink("/dev/zero", file) },
		"not there":      func() {},
		"a link to none": func() { os.Symlink("none", file) },
	} {
		os.Remove(file)
		write("ann" + hash)
		cfg := parse(t, text)
		os.Remove(file)
		spoil()
		if _, err := config.Parse("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "services[0].http.basic_auth.file: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		err := d.Reconfigure(cfg) // the file was good when it was checked
		if said := fmt.Sprint(err); err == nil || !strings.Contains(said, "nothing changed: f.yaml:1:") || !strings.Contains(said, file) || strings.Contains(said, "secret") {
			t.Errorf("%s, after it was checked: %v", name, err)
		}
		logins(401, 200)
	}
}

// TestStickyKeyIsReloaded: another key makes the cookies of before void, and clients get new ones.
// A configuration that was read before has the key of that time, whatever the file says by now.
func TestStickyKeyIsReloaded(t *testing.T) {
	file, port := filepath.Join(t.TempDir(), "sticky.key"), freePort(t)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0123456789abcdef")
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", mode: http, backends: ["%s"], http: {sticky: {cookie: to, secret: "file:%s"}}}]`, port, webServer(t, "a"), file)
	d := startDaemon(t, text)
	ask := func(cookie string) (set string) { // empty: the cookie is good
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:"+port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", cookie)
		res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		set, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
		return set
	}
	first := ask("")
	if first == "" || ask(first) != "" {
		t.Fatalf("the cookie %q is not taken", first)
	}
	checked := parse(t, text)
	for name, content := range map[string]string{"empty": "", "too short": "0123", "huge": strings.Repeat("x", 5000), "another key": "fedcba9876543210"} {
		write(content)
		_, err := config.Parse("f.yaml", []byte(text))
		if valid := name == "another key"; valid != (err == nil) || !valid && !strings.Contains(err.Error(), "http.sticky.secret: ") {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Reconfigure(checked); err != nil { // it has the key of when it was read
			t.Errorf("%s, after it was checked: %v", name, err)
		}
		if again := ask(first); again != "" {
			t.Errorf("%s: the cookie of before is not taken, but replaced by %q", name, again)
		}
	}
	write("fedcba9876543210")
	mustReload(t, d, text)
	second := ask(first)
	if second == "" || second == first || ask(second) != "" {
		t.Errorf("after the reload %q is answered with %q", first, second)
	}
}
