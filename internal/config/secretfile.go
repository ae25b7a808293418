package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/havip/havip/internal/regular"
)

// maxSecretFile is far more than a password or a key has.
const maxSecretFile = 4096

// readSecretFile reads a password or a key from a file. Only the owner may have access to
// the file. A line end after the secret is left out, and a secret that begins with "hex:"
// is decoded, as Keepalived does.
func readSecretFile(path string) ([]byte, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	defer f.Close()
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("secret file %s: mode %04o lets others at it: chmod 600 %s", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("secret file: %w", err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("secret file %s: more than %d bytes", path, maxSecretFile)
	}
	text, err := decodeHex(string(bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))))
	if err == nil && text == "" {
		err = errors.New("empty")
	}
	if err != nil {
		return nil, fmt.Errorf("secret file %s: %w", path, err)
	}
	return []byte(text), nil
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
