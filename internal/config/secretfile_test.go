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
