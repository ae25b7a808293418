package labtest

import (
	"os"
	"strconv"
	"strings"

	"github.com/havip/havip/internal/lab"
)

// DelayedACKs is how many acknowledgements of TCP the kernel of a host has held back until
// their time was over.
func DelayedACKs(t lab.TB, h *lab.Host) int {
	t.Helper()
	var file []byte
	err := h.Do(func() (err error) {
		file, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	names, rest, _ := strings.Cut(string(file), "\n")
	values, _, _ := strings.Cut(rest, "\n")
	for i, name := range strings.Fields(names) {
		if name == "DelayedACKs" {
			n, err := strconv.Atoi(strings.Fields(values)[i])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no DelayedACKs in %q, %v", file, err)
	return 0
}
