package healthcheck

import (
	"errors"

	"golang.org/x/sys/unix"
)

// readACL returns the POSIX access control list of what is at path; nil: none,
// the mode says it all. NFS version 4 has lists of another kind, which its mode
// reflects as well as it can.
func readACL(path string) ([]aclEntry, error) {
	const name = "system.posix_acl_access"
	size, err := unix.Lgetxattr(path, name, nil)
	var value []byte
	if err == nil {
		value = make([]byte, size)
		size, err = unix.Lgetxattr(path, name, value)
	}
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return parseACL(value[:size])
}
