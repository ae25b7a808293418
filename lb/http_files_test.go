package lb

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/havip/havip/internal/regular"
)

// TestReadFiles: what is in the files of rules is read, those of routes too. A file that cannot
// be used is told, with the rule that names it, and the configuration stays as it is.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"page": "page", "empty": "", "huge": strings.Repeat("x", MaxRuleFile+1), "largest": strings.Repeat("x", MaxRuleFile), "users": htpasswdText()} {
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"page": "", "empty": "", "largest": "",
		"huge": "more than 1048576 bytes", "none": "no such file", "fifo": regular.ErrNotRegular.Error(), ".": regular.ErrNotRegular.Error(), "page/x": "not a directory",
	} {
		page := Page{File: at(name)}
		if name == "." {
			page.File = dir
		}
		cfg := HandlerConfig{Rules: Rules{Sorry: &page, MaintenancePage: &page, ErrorPages: []ErrorPage{{Statuses: []int{404}, Page: page}}, Auth: &BasicAuth{File: at("users")}},
			Routes: []Route{{HandlerConfig: HandlerConfig{Rules: Rules{Sorry: &page}}}}}
		filled, err := cfg.ReadFiles(nil)
		if want == "" {
			content, _ := os.ReadFile(page.File)
			for _, p := range []*Page{filled.Sorry, filled.MaintenancePage, &filled.ErrorPages[0].Page, filled.Routes[0].Sorry} {
				if err != nil || string(p.Content) != string(content) || p.Content == nil {
					t.Errorf("%s: %d bytes, %v", name, len(p.Content), err)
				}
			}
			if filled.Auth.Users == nil {
				t.Errorf("%s: no users", name)
			}
		} else {
			for _, rule := range []string{"Sorry", "MaintenancePage", "ErrorPages[0]", "Routes[0].Sorry"} {
				if err == nil || !strings.Contains(err.Error(), rule+".File: ") || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), page.File) {
					t.Errorf("%s of %s: %v, want %q", name, rule, err, want)
				}
			}
		}
		if cfg.Sorry.Content != nil || cfg.ErrorPages[0].Content != nil || cfg.Routes[0].Sorry.Content != nil || cfg.Auth.Users != nil {
			t.Errorf("%s: the configuration has changed", name)
		}
	}
}
