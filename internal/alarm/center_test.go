package alarm

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/report"
)

// inbox is a webhook that keeps what it gets.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n Notice
	if json.NewDecoder(r.Body).Decode(&n) != nil || len(n.Alarms) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range n.Alarms {
		b.got = append(b.got, string(a.State)+" "+a.Key)
	}
}

func (b *inbox) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.got, ", ")
}

// startInbox returns an inbox and its URL.
func startInbox(t *testing.T) (*inbox, string) {
	b := new(inbox)
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return b, s.URL
}

func (b *inbox) wait(t *testing.T, want string) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "the alarms arrive", func() error {
		if got := b.String(); got != want {
			return errors.New("got " + got)
		}
		return nil
	})
}

// TestReceiversStandAlone: one that hangs keeps nothing from another, nor the end of all
// for longer than stopTime.
func TestReceiversStandAlone(t *testing.T) {
	hanging := labtest.Listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	box, url := startInbox(t)
	ring := report.NewRing(100)
	c := New("lb01", ring, logTo(io.Discard))
	c.Reconfigure([]Config{{Name: "hanging", Webhook: "http://" + hanging, Timeout: time.Minute}, {Name: "good", Webhook: url}})
	ring.Add(split(0))
	box.wait(t, "raised split VI_1")
	// While the other hangs a reload does not.
	began := time.Now()
	c.Reconfigure([]Config{{Name: "hanging", Webhook: "http://" + hanging + "/x", Timeout: time.Minute}, {Name: "good", Webhook: url}})
	c.Reconfigure([]Config{{Name: "good", Webhook: url}, {Name: "hanging", Webhook: "http://" + hanging, Timeout: time.Minute}, {Name: "hanging2", Webhook: "http://" + hanging, Timeout: time.Minute}})
	ring.Add(splitOver(0))
	box.wait(t, "raised split VI_1, resolved split VI_1")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	ring.Add(transition(0, "Active", "Initialize", "shutdown"))
	began = time.Now()
	c.Stop()
	if took := time.Since(began); took < stopTime || took > stopTime+10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if want := "raised split VI_1, resolved split VI_1, news transition VI_1"; box.String() != want {
		t.Errorf("got %s, want %s", box, want)
	}
}

// TestNewReceiver hears of what lasts, and of nothing that is over.
func TestNewReceiver(t *testing.T) {
	first, url := startInbox(t)
	second, url2 := startInbox(t)
	ring := report.NewRing(100)
	c := New("lb01", ring, logTo(io.Discard))
	defer c.Stop()
	ring.Add(split(0))
	ring.Add(transition(0, "Backup", "Active", "x"))
	c.Reconfigure([]Config{{Name: "first", Webhook: url, On: []string{"split"}}})
	first.wait(t, "raised split VI_1")
	ring.Add(noBackends(0))
	ring.Add(splitOver(0))
	first.wait(t, "raised split VI_1, resolved split VI_1")
	c.Reconfigure([]Config{{Name: "first", Webhook: url, On: []string{"split"}}, {Name: "second", Webhook: url2}})
	second.wait(t, "raised pool web")
	c.Retain(func(e report.Event) bool { return e.Service != "web" })
	second.wait(t, "raised pool web, resolved pool web")
	if want := "raised split VI_1, resolved split VI_1"; first.String() != want {
		t.Errorf("the first got %s, want %s", first, want)
	}
}

// TestTest: a trial arrives, or its error does; an unknown name is answered with those
// that there are.
func TestTest(t *testing.T) {
	box, url := startInbox(t)
	c := New("lb01", report.NewRing(10), logTo(io.Discard))
	defer c.Stop()
	c.Reconfigure([]Config{{Name: "good", Webhook: url}, {Name: "bad", Webhook: "http://127.0.0.1:1/"}})
	if err := c.Test(t.Context(), "good"); err != nil || box.String() != "news test" {
		t.Errorf("%v, got %s", err, box)
	}
	if err := c.Test(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), "alarm bad: ") {
		t.Errorf("got %v", err)
	}
	if err := c.Test(t.Context(), "none"); !errors.Is(err, report.ErrUnknown) || !strings.Contains(err.Error(), "there are bad, good") {
		t.Errorf("got %v", err)
	}
}

// TestStatus: how each receiver fares, while one of them hangs.
func TestStatus(t *testing.T) {
	hanging := labtest.Listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	_, url := startInbox(t)
	ring := report.NewRing(100)
	c := New("lb01", ring, logTo(io.Discard))
	if got := c.Status(); got == nil || len(got) != 0 {
		t.Errorf("before the first configuration: %v", got)
	}
	c.Reconfigure([]Config{
		{Name: "hanging", Webhook: "http://" + hanging, Timeout: time.Minute, Format: Slack},
		{Name: "good", Webhook: url},
		{Name: "away", Email: Email{Server: lab.FreeAddress(t), From: "a@example.org", To: []string{"b@example.org"}, TLS: NoTLS}},
	})
	defer c.Stop()
	ring.Add(noBackends(0))
	lab.Until(t, 20*time.Second, "all have begun", func() bool {
		s := c.Status()
		return s[0].Waiting == 1 && s[1].Delivered == 1 && s[1].Waiting == 0
	})
	if c.Test(t.Context(), "away") == nil {
		t.Fatal("nobody listens, and a trial arrives")
	}
	s := c.Status()
	if s[0].Name != "hanging" || s[0].Kind != "webhook, slack" || s[0].Delivered != 0 || s[0].Failed != 0 {
		t.Errorf("the one that hangs: %+v", s[0])
	}
	if s[1].Name != "good" || s[1].Kind != "webhook, json" || s[1].Failed != 0 || !s[1].FailingSince.IsZero() {
		t.Errorf("the good one: %+v", s[1])
	}
	if s[2].Kind != "mail" || s[2].Failed == 0 || s[2].Error == "" || s[2].ErrorAt.IsZero() || s[2].FailingSince.IsZero() {
		t.Errorf("the one that is away: %+v", s[2])
	}
}
