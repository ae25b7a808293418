package vrrp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/havip/havip/internal/regular"
)

// maxSecretFile is far more than a password or a key has.
const maxSecretFile = 4096

// ReadSecretFile reads a password or a key from a file that only its owner may
// read or write; it refuses others. A line end after the secret is left out,
// and a secret that begins with "hex:" is decoded, as Keepalived does.
func ReadSecretFile(path string) ([]byte, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("vrrp: secret file: %w", err)
	}
	defer f.Close()
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("vrrp: secret file %s: mode %04o lets others at it: chmod 600 %s", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("vrrp: secret file: %w", err)
	}
	return parseSecret(path, b)
}

func parseSecret(path string, b []byte) ([]byte, error) {
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("vrrp: secret file %s: more than %d bytes", path, maxSecretFile)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if digits, ok := bytes.CutPrefix(b, []byte("hex:")); ok {
		n, err := hex.Decode(digits, digits)
		if err != nil {
			// Not err: it quotes the secret.
			return nil, fmt.Errorf("vrrp: secret file %s: what follows hex: is not an even number of hexadecimal digits", path)
		}
		b = digits[:n]
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("vrrp: secret file %s: empty", path)
	}
	return b, nil
}
