package config

import (
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

// String returns a placeholder.
func (s Secret) String() string { return redacted }

// GoString returns a placeholder.
func (s Secret) GoString() string { return redacted }

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
		return readSecret(path, dir)
	}
	text := said
	if name, ok := strings.CutPrefix(said, "env:"); ok {
		if text, ok = os.LookupEnv(name); !ok {
			return Secret{}, errors.New("the environment variable that env: names is not set")
		}
	}
	text, err := decodeHex(text)
	if err != nil {
		return Secret{}, err
	}
	if text == "" {
		return Secret{}, errors.New("the secret is empty")
	}
	return Secret{&text}, nil
}

func readSecret(path, dir string) (Secret, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	data, err := readSecretFile(path)
	if errors.Is(err, regular.ErrNotRegular) {
		return Secret{}, fmt.Errorf("%s: %w", path, regular.ErrNotRegular)
	}
	if system := (*fs.PathError)(nil); errors.As(err, &system) {
		return Secret{}, fmt.Errorf("the file that file: names, a relative path beside this one: %w", system.Err)
	}
	if err != nil {
		return Secret{}, err
	}
	text := string(data)
	return Secret{&text}, nil
}
