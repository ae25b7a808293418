package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretNeverShows: no way of printing, logging or marshalling shows it.
func TestSecretNeverShows(t *testing.T) {
	text := "d0cker-hunter2"
	s := Secret{&text}
	type hidden struct{ auth Auth }
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t", "%T", "%10.3v"} {
		for _, v := range []any{s, &s, Auth{Secret: s}, &Auth{Secret: s}, []Key{{1, s}}, Router{Auth: Auth{Secret: s}}, hidden{Auth{Secret: s}}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	fmt.Fprintln(&out, s)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "auth", Auth{Secret: s}, "pointer", &Auth{Secret: s})
	}
	data, err := json.Marshal(Router{Auth: Auth{Secret: s}})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(data)
	hexed := fmt.Sprintf("%x", text[:6])
	for _, leak := range []string{"d0cker", hexed, strings.ToUpper(hexed), "[100 48"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s shows in\n%s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing was printed")
	}
	if s.Reveal() != text || (Secret{}).Reveal() != "" {
		t.Error("Reveal does not give the text")
	}
}

// TestSecretSources: plain text, files beside the configuration, environment.
func TestSecretSources(t *testing.T) {
	t.Setenv("HAVIP_TEST_SECRET", "from-env")
	t.Setenv("HAVIP_TEST_EMPTY", "")
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "from-file\n", "crlf": "from-crlf\r\n", "two": "a\nb\n", "hex": "hex:6869\n", "empty": "\n",
		"open": "x", "group": "x", "writable": "x", "long": strings.Repeat("x", 5000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"open": 0o604, "group": 0o640, "writable": 0o620} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, said, want, err string }{
		{"plain", "d0cker", "d0cker", ""},
		{"plain number", "0123", "0123", ""},
		{"plain word that is a boolean elsewhere", "no", "no", ""},
		{"relative file", "file:good", "from-file", ""},
		{"absolute file", "file:" + dir + "/good", "from-file", ""},
		{"file with CRLF", "file:crlf", "from-crlf", ""},
		{"only the last line end goes", "file:two", "a\nb", ""},
		{"file in hexadecimal", "file:hex", "hi", ""},
		{"hexadecimal", "hex:6869", "hi", ""},
		{"wrong hexadecimal", "hex:686", "", "what follows hex: is not an even number of hexadecimal digits"},
		{"environment", "env:HAVIP_TEST_SECRET", "from-env", ""},
		{"empty file", "file:empty", "", "empty"},
		{"empty variable", "env:HAVIP_TEST_EMPTY", "", "the secret is empty"},
		{"world-readable", "file:open", "", "mode 0604 lets others at it: chmod 600 " + dir + "/open"},
		{"group-readable", "file:group", "", "mode 0640 lets others"},
		{"group-writable", "file:writable", "", "mode 0620 lets others"},
		{"too long", "file:long", "", "more than 4096 bytes"},
		{"device", "file:/dev/zero", "", "/dev/zero: not a regular file"},
		{"missing", "file:none", "", "a relative path beside this one: no such file or directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "havip.yaml")
			text := "vrrp: [{name: a, interface: eth0, vrid: 51, version: 2, addresses: [192.0.2.1], auth: {type: pass, secret: " + c.said + "}}]\n"
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := Load(path)
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err == "" && cfg.VRRP[0].Auth.Secret.Reveal() != c.want:
				t.Errorf("got %q, want %q", cfg.VRRP[0].Auth.Secret.Reveal(), c.want)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("got %v, want %s", err, c.err)
			}
		})
	}
}
