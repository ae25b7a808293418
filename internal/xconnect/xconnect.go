// Package xconnect has net/http take extended CONNECT (RFC 8441), by which clients of HTTP/2
// open WebSockets. net/http does so only where GODEBUG has http2xconnect=1 when it is
// initialized, and has no other setting. So this package comes first: of packages whose
// imports are initialized, Go initializes those with the least path first ("Package
// initialization" in the language's specification; from Go 1.21 on by path), and this one
// needs next to nothing.
//
// A program imports it, and calls Restore. A library must not: the environment is the
// program's.
package xconnect

import "os"

const variable = "GODEBUG"

var before, was = os.LookupEnv(variable)

func init() {
	setting := "http2xconnect=1"
	if before != "" {
		setting = before + "," + setting
	}
	_ = os.Setenv(variable, setting)
}

// Restore makes the environment what it was: programs that are started from here on must not
// inherit the setting.
func Restore() {
	if was {
		_ = os.Setenv(variable, before)
	} else {
		_ = os.Unsetenv(variable)
	}
}
