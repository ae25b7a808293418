package alarm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// TestAlert: an end has the labels of its beginning, or Alertmanager would not know it.
func TestAlert(t *testing.T) {
	b := NewBook(Rules{On: Kinds, Repeat: alertRefresh, Refresh: true})
	say := func(e report.Event) alert {
		t.Helper()
		b.Take(e, e.Time)
		body, err := alertBody(&Notice{Host: "lb01", Alarms: b.Due(e.Time)}, e.Time)
		var alerts []alert
		if err := cmpErr(err, json.Unmarshal(body, &alerts)); err != nil || len(alerts) != 1 {
			t.Fatalf("%v: %s", err, body)
		}
		return alerts[0]
	}
	began, ended := say(split(0)), say(splitOver(time.Minute))
	if fmt.Sprint(began.Labels) != fmt.Sprint(ended.Labels) {
		t.Errorf("labels %v, and at the end %v", began.Labels, ended.Labels)
	}
	want := "map[alertname:HavipSplit instance:lb01 job:havip key:split VI_1 kind:split severity:critical]"
	if got := fmt.Sprint(began.Labels); got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	if !began.StartsAt.Equal(start) || !began.EndsAt.Equal(at(alertLife)) || !ended.StartsAt.Equal(start) || !ended.EndsAt.Equal(at(time.Minute)) {
		t.Errorf("from %v to %v, and at the end from %v to %v", began.StartsAt, began.EndsAt, ended.StartsAt, ended.EndsAt)
	}
	if alertRefresh*3 > alertLife {
		t.Error("two lost refreshes end an alert")
	}
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAlertURL: the server alone is enough.
func TestAlertURL(t *testing.T) {
	for base, want := range map[string]string{
		"http://am:9093":                     "http://am:9093/api/v2/alerts",
		"http://am:9093/":                    "http://am:9093/api/v2/alerts",
		"https://u:p@h/alertmanager/":        "https://u:p@h/alertmanager/api/v2/alerts",
		"http://am:9093/api/v2/alerts":       "http://am:9093/api/v2/alerts",
		"http://am:9093/x/api/v2/alerts?a=b": "http://am:9093/x/api/v2/alerts?a=b",
	} {
		if got := alertURL(base); got != want {
			t.Errorf("%s is %s, want %s", base, got, want)
		}
	}
}

// TestRealAlertmanager: Debian's takes the alarms of a Center, shows them as active, and
// after the end not any more.
func TestRealAlertmanager(t *testing.T) {
	const program = "prometheus-alertmanager"
	lab.Need(t, program)
	base := startAlertmanager(t, program)
	ring := report.NewRing(100)
	out := &labtest.Log{}
	c := New("lb01", ring, logTo(out))
	defer c.Stop()
	c.Reconfigure([]Config{{Name: "am", Webhook: base, Format: Alertmanager, On: []string{"split", "transition"}}})
	began := time.Now().Add(-time.Second)
	happen := func(e report.Event) {
		e.Time = time.Now()
		ring.Add(e)
	}
	happen(split(0))
	happen(transition(0, "Backup", "Active", `a "cause" with <signs>`))
	state := func(name string) (found *gotAlert) {
		for _, a := range alertsAt(t, base) {
			if a.Labels["alertname"] == name {
				return &a
			}
		}
		return nil
	}
	lab.Until(t, 30*time.Second, "both are active", func() bool {
		a, b := state("HavipSplit"), state("HavipTransition")
		return a != nil && a.Status.State == "active" && b != nil && b.Status.State == "active"
	})
	a := state("HavipSplit")
	if a.Labels["instance"] != "lb01" || a.Labels["severity"] != "critical" || a.StartsAt.Before(began) ||
		!strings.Contains(a.Annotations["summary"], "another router is Active as well") || !strings.Contains(a.Annotations["description"], "192.0.2.2") {
		t.Errorf("got %+v", a)
	}
	happen(splitOver(0))
	lab.Until(t, 30*time.Second, "the split is resolved", func() bool { return state("HavipSplit") == nil })
	if state("HavipTransition") == nil {
		t.Error("the transition is gone as well")
	}
	if s := out.String(); s != "" {
		t.Errorf("logged: %s", s)
	}
}

type gotAlert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	Status              struct{ State string }
}

func alertsAt(t *testing.T, base string) (alerts []gotAlert) {
	t.Helper()
	resp, err := http.Get(base + alertPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
		t.Fatal(err)
	}
	return alerts
}

// startAlertmanager runs the program on loopback until the test ends.
func startAlertmanager(t *testing.T, program string) (base string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file="+file, "--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
	said := &labtest.Log{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, said)
		}
	})
	base = "http://" + address
	lab.Eventually(t, 30*time.Second, program+" is ready", func() error {
		resp, err := http.Get(base + "/-/ready")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	})
	return base
}
