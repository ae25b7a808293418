package lab

import (
	"os"
	"testing"
)

// helper is what this binary does instead of running tests, see enter_linux_test.go.
var helper = map[string]func(){}

func TestMain(m *testing.M) {
	if f := helper[os.Getenv("LAB_TEST_HELPER")]; f != nil {
		f()
		os.Exit(0)
	}
	Main(m)
}
