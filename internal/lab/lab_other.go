//go:build !linux

package lab

import "os"

// Main runs the tests of a package that uses the lab on Linux.
func Main(m interface{ Run() int }) { os.Exit(m.Run()) }
