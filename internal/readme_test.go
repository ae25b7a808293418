package internal_test

import (
	"os"
	"strings"
	"testing"

	"github.com/havip/havip/internal/config"
)

// TestReadme: the code that README shows is code that compiles, and its
// configuration is one that havip accepts.
func TestReadme(t *testing.T) {
	readme := read(t, "../README.md")
	example := read(t, "../examples/embed/main.go")
	if code := block(t, readme, "go"); !strings.Contains(example, code) {
		t.Error("README's Go code is not part of examples/embed/main.go")
	}
	if _, err := config.Parse("README.md", []byte(block(t, readme, "yaml"))); err != nil {
		t.Errorf("README's configuration: %v", err)
	}
	_, rules, _ := strings.Cut(readme, "## HTTP rules")
	// Nor are files of certificates and passwords.
	text := strings.NewReplacer("    tls: {certificates: [/etc/havip/web.pem]}\n", "", "{realm: inside, file: /etc/havip/htpasswd}", "off").Replace(block(t, rules, "yaml"))
	if _, err := config.Parse("README.md", []byte(text)); err != nil {
		t.Errorf("README's rules: %v", err)
	}
	_, alarms, _ := strings.Cut(readme, "## Alarms")
	// The files of secrets are on no machine of a test.
	text = block(t, readme, "yaml") + strings.NewReplacer("file:/etc/havip/webhook", "https://hooks.example.org", "file:/etc/havip/mail", "secret").Replace(block(t, alarms, "yaml"))
	if cfg, err := config.Parse("README.md", []byte(text)); err != nil || len(cfg.Alarms) != 3 {
		t.Errorf("README's alarms: %v", err)
	}
}

// block returns the first fenced block of a language.
func block(t *testing.T, text, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "```"+language+"\n")
	if !ok {
		t.Fatalf("README has no %s block", language)
	}
	code, _, _ := strings.Cut(rest, "```")
	return code
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
