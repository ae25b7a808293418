package alarm

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/havip/havip/internal/report"
)

// checkSlack finds what Slack refuses, by the reference of Block Kit: the types of blocks
// and of their texts, and how long and how many they may be.
func checkSlack(body []byte) error {
	if !utf8.Valid(body) {
		return fmt.Errorf("not UTF-8: %q", body)
	}
	var m struct {
		Text   string
		Blocks []struct {
			Type     string
			Text     *struct{ Type, Text string }
			Elements []struct{ Type, Text string }
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	if m.Text == "" || len(m.Text) > slackText {
		return fmt.Errorf("a text of %d bytes", len(m.Text))
	}
	if len(m.Blocks) == 0 || len(m.Blocks) > slackBlocks {
		return fmt.Errorf("%d blocks", len(m.Blocks))
	}
	texts := []string{m.Text}
	for _, b := range m.Blocks {
		switch b.Type {
		case "section":
			if b.Text == nil || b.Text.Type != "mrkdwn" || b.Text.Text == "" || len(b.Text.Text) > slackSection || b.Elements != nil {
				return fmt.Errorf("section %+v", b)
			}
			texts = append(texts, b.Text.Text)
		case "context":
			if len(b.Elements) == 0 || len(b.Elements) > 10 || b.Text != nil {
				return fmt.Errorf("context %+v", b)
			}
			for _, e := range b.Elements {
				if e.Type != "mrkdwn" || e.Text == "" || len(e.Text) > slackSection {
					return fmt.Errorf("element %+v", e)
				}
				texts = append(texts, e.Text)
			}
		default:
			return fmt.Errorf("type %q", b.Type)
		}
	}
	for _, s := range texts {
		if found := notEscaped.FindString(s); found != "" {
			return fmt.Errorf("%q is not escaped in %q", found, s)
		}
	}
	return nil
}

// notEscaped is what makes a mention or a link, or is half of an escape.
var notEscaped = regexp.MustCompile(`[<>]|&([^alg]|$|a[^m]|am[^p]|amp[^;]|[lg][^t]|[lg]t[^;])`)

// TestSlack: the message says what a person wants to know first.
func TestSlack(t *testing.T) {
	n := notice(split(0), transition(time.Second, "Backup", "Active", "no advertisement in time"))
	n.Lost = 3
	body, err := slackBody(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSlack(body); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
	for _, want := range []string{`"text":"lb01: VI_1: split: another router is Active as well (192.0.2.2) (and 1 more)"`,
		`:red_circle: *VI_1: split:`, `:information_source: *VI_1 is Active, was Backup: no advertisement in time*`,
		`since 2026-01-02 03:00:00 UTC`, `havip on lb01, 3 before these were not told`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is not in\n%s", want, body)
		}
	}
}

// TestSlackOfMany: there is a bound to what one message says, and the rest is counted.
func TestSlackOfMany(t *testing.T) {
	var events []report.Event
	for i := range 200 {
		e := split(0)
		e.Router = fmt.Sprint("VI_", i)
		events = append(events, e)
	}
	body, err := slackBody(notice(events...))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSlack(body); err != nil || !strings.Contains(string(body), "180 more alarms") {
		t.Errorf("%v\n%s", err, body)
	}
}

// FuzzSlack: whatever is in an event, Slack takes the message, and nothing in it is a
// mention or a link.
func FuzzSlack(f *testing.F) {
	f.Add("<!channel> & <https://evil.example|click>", "VI_1")
	f.Add(strings.Repeat("&", 5000), strings.Repeat("<", 400))
	f.Add("\xff\x00\n\u2028", "a\tb")
	f.Add("0", strings.Repeat("\xff0", 1400)) // each byte that is no character becomes three
	f.Fuzz(func(t *testing.T, cause, router string) {
		e := transition(0, "Backup", "Active", cause)
		e.Router = router
		e.Attributes = append(e.Attributes, report.Attribute{Key: "err", Value: cause})
		n := notice(e)
		n.Host = router
		body, err := slackBody(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkSlack(body); err != nil {
			t.Errorf("%v\n%s", err, body)
		}
	})
}
