package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vrrp"
)

// TestStartDelay: with start_delay_uptime it counts soon after the host's boot
// only.
func TestStartDelay(t *testing.T) {
	for _, tc := range []struct{ delay, uptime, up, want time.Duration }{
		{0, 0, time.Second, 0},
		{30 * time.Second, 0, time.Second, 30 * time.Second},
		{30 * time.Second, 0, 1000 * time.Hour, 30 * time.Second},
		{30 * time.Second, time.Minute, 0, 30 * time.Second},
		{30 * time.Second, time.Minute, 59 * time.Second, 30 * time.Second},
		{30 * time.Second, time.Minute, time.Minute, 0},
		{30 * time.Second, time.Minute, 1000 * time.Hour, 0},
	} {
		c := config.Router{VRRP: vrrp.Config{StartDelay: tc.delay}, StartDelayUptime: tc.uptime}
		if got := startDelay(c, tc.up); got != tc.want {
			t.Errorf("start_delay %v, start_delay_uptime %v, up for %v: %v, want %v", tc.delay, tc.uptime, tc.up, got, tc.want)
		}
	}
}

// FuzzAccepted: what a configuration may say is what the packages accept, so
// that validate and run agree.
func FuzzAccepted(f *testing.F) {
	var defaults bytes.Buffer
	if err := config.WriteDefaults(&defaults); err != nil {
		f.Fatal(err)
	}
	// Without comments, which name files.
	f.Add(regexp.MustCompile(`(?m)#.*$`).ReplaceAll(defaults.Bytes(), nil))
	f.Add([]byte(allServices))
	for _, file := range []string{"lb01.yaml", "lb02.yaml"} {
		data, err := os.ReadFile("../../examples/twonode/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Files and variables are not the fuzzer's to read.
		for _, outside := range []string{"file:", "env:", "ca:", "certificate"} {
			if bytes.Contains(data, []byte(outside)) {
				return
			}
		}
		cfg, err := config.Parse("f.yaml", data)
		if err != nil {
			return
		}
		for _, c := range cfg.Checks {
			if _, err := newMonitor(c, c.Name, "", "", healthcheck.Unknown, nil); err != nil {
				t.Errorf("check %+v: %v", c, err)
			}
		}
		for _, r := range cfg.VRRP {
			if _, err := vrrp.NewMachine(r.VRRPConfig()); err != nil {
				t.Errorf("router %+v: %v", r, err)
			}
		}
		for _, s := range cfg.Services {
			d := &Daemon{log: slog.New(slog.DiscardHandler), access: func(lb.Record) {}}
			if err := (&servicePlan{cfg: s, tally: new(tally), lines: new(lines)}).prepareParts(d, nil); err != nil {
				t.Errorf("service %+v: %v", s, err)
			}
		}
	})
}
