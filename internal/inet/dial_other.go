//go:build !unix

package inet

import "syscall"

func resetOnClose(string, string, syscall.RawConn) error { return nil }
