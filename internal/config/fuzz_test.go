package config

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vrrp"
)

// FuzzParse: no panic, bounded time, and either a complete configuration or
// problems that have a place and a text.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/everything.yaml", "../../examples/twonode/lb01.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	bad, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		f.Fatal(err)
	}
	for entry := range strings.SplitSeq(string(bad), "=== ") {
		_, rest, _ := strings.Cut(entry, "\n")
		input, _, _ := strings.Cut(rest, "--- says\n")
		f.Add([]byte(input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Files and variables are not the fuzzer's to read.
		if strings.Contains(string(data), "file:") || strings.Contains(string(data), "env:") {
			return
		}
		before := labtest.OwnTime()
		c, err := pretend("f.yaml", data)
		if took := labtest.OwnTime() - before; took > 10*time.Second {
			t.Errorf("took %v for %d bytes", took, len(data))
		}
		if err != nil {
			var errs Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("%T %v", err, err)
			}
			for _, p := range errs {
				if p.Pos.Line < 1 || p.Pos.Column < 1 || p.Text == "" || strings.ContainsAny(p.Error(), "\n\r\x1b") {
					t.Errorf("%#v", p)
				}
			}
			return
		}
		for _, p := range c.OnHost(fakeHost()) {
			if p.Pos.Line < 1 || p.Pos.Column < 1 || p.Text == "" || strings.ContainsAny(p.Error(), "\n\r\x1b") {
				t.Errorf("%#v", p)
			}
		}
		for _, r := range c.VRRP {
			if r.Name == "" || r.VRID == 0 || r.Priority == 0 || r.Interval <= 0 {
				t.Errorf("accepted %+v", r)
			}
			if err := acceptedByVRRP(r); err != nil {
				t.Errorf("accepted, but %v: %+v", err, r)
			}
		}
		for _, s := range c.Services {
			if s.Name == "" || s.Listen.Port() == 0 || len(s.Pool.Backends)+len(s.Routes) == 0 || s.Check != nil && s.Check.Type == "" {
				t.Errorf("accepted %+v", s)
			}
			if err := acceptedByLB(s); err != nil {
				t.Errorf("accepted, but %v: %+v", err, s)
			}
		}
		for _, h := range c.Checks {
			if h.Name == "" || h.Interval <= 0 || h.Timeout <= 0 || h.Rise < 1 || h.Fall < 1 {
				t.Errorf("accepted %+v", h)
			}
			if err := acceptedByHealthcheck(h); err != nil {
				t.Errorf("accepted, but %v: %+v", err, h)
			}
		}
	})
}

// acceptedByVRRP: the rules of the protocol and of the addresses are no stricter than
// ours.
func acceptedByVRRP(r Router) error {
	if _, err := vrrp.NewMachine(r.VRRPConfig()); err != nil {
		return err
	}
	return r.VIPConfig().Validate()
}

// acceptedByLB: neither are those of pools and planes.
func acceptedByLB(s Service) error {
	first, err := lb.NewPool(s.Pool)
	for _, r := range s.Routes {
		_, routed := lb.NewPool(s.PoolOf(r))
		err = errors.Join(err, routed)
	}
	if err != nil {
		return err
	}
	h, t, u := s.HTTP, s.TCP, s.UDP
	h.Pool, t.Pool, u.Pool = first, first, first
	return errors.Join(h.Validate(), t.Validate(), u.Validate(), s.Limits.Validate())
}

// acceptedByHealthcheck: neither are those of a monitor.
func acceptedByHealthcheck(c Check) error {
	mc := c.Config
	mc.Checker = c.New("", nil)
	_, err := healthcheck.NewMonitor(mc)
	return err
}
