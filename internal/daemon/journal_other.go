//go:build !unix

package daemon

import "os"

// deviceAndInode returns nothing: there is no journal.
func deviceAndInode(*os.File) string { return "" }
