package daemon

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUptime: it is what the kernel says everywhere.
func TestUptime(t *testing.T) {
	before := uptime()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	const resolution = 10 * time.Millisecond
	if at := time.Duration(seconds * float64(time.Second)); at < before-resolution || at > uptime()+resolution {
		t.Errorf("up for %v, and /proc/uptime says %v", before, at)
	}
}
