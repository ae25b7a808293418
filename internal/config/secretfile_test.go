package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecretFile(t *testing.T) {
	tests := []struct {
		name, content string
		mode          os.FileMode
		want, wantErr string
	}{
		{"plain", "d0cker", 0o600, "d0cker", ""},
		{"read-only", "d0cker", 0o400, "d0cker", ""},
		{"line end", "d0cker\n", 0o600, "d0cker", ""},
		{"only one of them", "d0cker \n\n", 0o600, "d0cker \n", ""},
		{"DOS line end", "d0cker\r\n", 0o600, "d0cker", ""},
		{"hexadecimal", "hex:64306b\n", 0o600, "d0k", ""},
		{"group may read", "d0cker", 0o640, "", "mode 0640 lets others at it"},
		{"world may read", "d0cker", 0o604, "", "mode 0604 lets others at it"},
		{"group may write", "d0cker", 0o620, "", "mode 0620 lets others at it"},
		{"bad digit", "hex:64306z", 0o600, "", "hexadecimal digits"},
		{"odd digits", "hex:643", 0o600, "", "hexadecimal digits"},
		{"empty", "\n", 0o600, "", "empty"},
		{"empty hexadecimal", "hex:", 0o600, "", "empty"},
		{"huge", strings.Repeat("x", maxSecretFile+1), 0o600, "", "more than 4096 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			got, err := readSecretFile(path)
			checkSecret(t, path, got, err, tt.want, tt.wantErr)
		})
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		got, err := readSecretFile(path)
		checkSecret(t, path, got, err, "", "secret file")
	}
}

func checkSecret(t *testing.T, path string, got string, err error, want, wantErr string) {
	t.Helper()
	if wantErr == "" {
		if err != nil || got != want {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), wantErr) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want %q and the path", err, wantErr)
	}
	if err != nil && strings.Contains(strings.ReplaceAll(err.Error(), path, ""), "6430") {
		t.Errorf("error %v tells the secret", err)
	}
}

// TestStickySecretFile: a file with the secret of cookies is wrong under its key, without a byte
// of it, and another secret is a change.
func TestStickySecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sticky.key")
	load := func(content string, mode os.FileMode) (*Config, error) {
		t.Helper()
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if content != "missing" {
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		return Parse("f.yaml", []byte(`services: [{name: web, listen: ":80", backends: ["192.0.2.7:80"], http: {sticky: {cookie: to, secret: "file:`+path+`"}}}]`))
	}
	const good, other = "0123456789abcdef", "fedcba9876543210"
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"missing":          {"missing", 0o600, "no such file"},
		"that others read": {good, 0o644, "mode 0644 lets others at it"},
		"empty":            {"", 0o600, "empty"},
		"too short":        {"0123456789", 0o600, "want at least 16"},
		"huge":             {strings.Repeat("x", maxSecretFile+1), 0o600, "more than 4096 bytes"},
		"bad digits":       {"hex:0123456789abcdefzz", 0o600, "hexadecimal digits"},
	} {
		_, err := load(tt.content, tt.mode)
		if err == nil || !strings.Contains(err.Error(), "http.sticky.secret: ") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "0123") {
			t.Errorf("%s: error %v, want %q and nothing of the secret", name, err, tt.want)
		}
	}
	was, err := load(good, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	is, err := load(other, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := allChanges(was, is); len(got) != 1 || !strings.HasPrefix(got[0], "web http.sticky.secret: ") || strings.Contains(got[0], "fedc") {
		t.Errorf("another secret: %q", got)
	}
}
