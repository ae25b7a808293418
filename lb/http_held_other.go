//go:build !linux

package lb

import "os"

// openNameless opens a file for a body.
func openNameless(folder string) (*os.File, error) { return openTemporary(folder) }
