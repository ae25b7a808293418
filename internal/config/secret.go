package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/havip/havip/internal/regular"
)

// redacted is what every way of printing a Secret gives.
const redacted = "[secret]"

// Secret is a password or key. However it is printed, logged or marshalled, it
// does not show: only Reveal gives the text. The zero value is no secret.
type Secret struct {
	// A pointer, since fmt cannot call our methods on a value that it reaches
	// through an unexported field: then it prints the pointer's address.
	text *string
}

// Reveal returns the secret's text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format prints a placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns a placeholder, in JSON and YAML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// resolveSecret turns what the file says, a plain text, file:PATH or env:NAME,
// into the secret; "hex:" before a secret means that it is written in
// hexadecimal. Relative paths start from dir. Errors never tell the text, nor a
// name or a path that is not there: then it may be the secret itself.
func resolveSecret(said, dir string) (Secret, error) {
	if path, ok := strings.CutPrefix(said, "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		text, err := readSecretFile(path)
		if errors.Is(err, regular.ErrNotRegular) {
			err = fmt.Errorf("%s: %w", path, regular.ErrNotRegular)
		} else if system, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("the file that file: names, a relative path beside this one: %w", system.Err)
		}
		return Secret{&text}, err
	}
	text := said
	if name, ok := strings.CutPrefix(said, "env:"); ok {
		if text, ok = os.LookupEnv(name); !ok {
			return Secret{}, errors.New("the environment variable that env: names is not set")
		}
	}
	text, err := decodeHex(text)
	if err == nil && text == "" {
		err = errors.New("the secret is empty")
	}
	return Secret{&text}, err
}

// maxSecretFile is far more than a password or a key has.
const maxSecretFile = 4096

// readSecretFile reads a password or a key from a file. Only the owner may have access to
// the file. A line end after the secret is left out, and a secret that begins with "hex:"
// is decoded, as Keepalived does.
func readSecretFile(path string) (string, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return "", fmt.Errorf("secret file: %w", err)
	}
	defer f.Close()
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("secret file %s: mode %04o lets others at it: chmod 600 %s", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("secret file: %w", err)
	}
	text, err := decodeHex(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"))
	switch {
	case len(b) > maxSecretFile:
		err = fmt.Errorf("more than %d bytes", maxSecretFile)
	case err == nil && text == "":
		err = errors.New("empty")
	}
	if err != nil {
		return "", fmt.Errorf("secret file %s: %w", path, err)
	}
	return text, nil
}

// decodeHex decodes a secret that begins with "hex:". The error does not quote it.
func decodeHex(text string) (string, error) {
	digits, ok := strings.CutPrefix(text, "hex:")
	if !ok {
		return text, nil
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return "", errors.New("what follows hex: is not an even number of hexadecimal digits")
	}
	return string(b), nil
}
