package lb

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openNameless opens a file for a body. Some file systems know none without a name.
func openNameless(folder string) (*os.File, error) {
	f, err := os.OpenFile(folder, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return openTemporary(folder)
	}
	return f, err
}
