//go:build !linux

package process

// neverRan is not known here.
func neverRan(int) bool { return false }
