package alarm

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Bounds of Slack's messages
// (https://api.slack.com/reference/block-kit/blocks, https://api.slack.com/methods/chat.postMessage#truncating).
const (
	slackBlocks  = 50   // of a message
	slackSection = 3000 // characters of a section's text
	slackText    = 4000 // characters of the text beside the blocks
	// slackAlarms of a notice have a block each. The rest is counted.
	slackAlarms = 20
	// slackEvents of an alarm are told: the latest.
	slackEvents = 3
)

// slackMessage is the body of an incoming webhook. Mattermost and others that imitate it
// may know the text only, so it says all that matters.
type slackMessage struct {
	Text   string       `json:"text"`
	Blocks []slackBlock `json:"blocks"`
}

type slackBlock struct {
	Type     string         `json:"type"` // section, context, divider
	Text     *slackObject   `json:"text,omitempty"`
	Elements []*slackObject `json:"elements,omitempty"`
}

type slackObject struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func mrkdwn(s string) *slackObject { return &slackObject{"mrkdwn", cutEscaped(s, slackSection)} }

// slackEscaper makes text of what would be a mention or a link
// (https://api.slack.com/reference/surfaces/formatting#escaping).
var slackEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// cutEscaped is cut for escaped text: it leaves no part of an escape at the end.
func cutEscaped(s string, most int) string {
	whole := cut(s, most)
	s, shortened := strings.CutSuffix(whole, "...")
	if !shortened {
		return whole
	}
	if i := strings.LastIndexByte(s, '&'); i >= 0 && !strings.Contains(s[i:], ";") {
		s = s[:i]
	}
	return s + "..."
}

// slackBody is a notice for Slack.
func slackBody(n *Notice) ([]byte, error) {
	m := slackMessage{Text: cutEscaped(slackEscaper.Replace(n.title()), slackText)}
	for i := range n.Alarms[:min(len(n.Alarms), slackAlarms)] {
		a := &n.Alarms[i]
		text := fmt.Sprintf("%s *%s*\n%s", slackSign(a), slackEscaper.Replace(a.headline()), slackEscaper.Replace(a.timing()))
		lines := a.details()
		for _, l := range lines[max(0, len(lines)-slackEvents):] {
			text += "\n• " + slackEscaper.Replace(l)
		}
		m.Blocks = append(m.Blocks, slackBlock{Type: "section", Text: mrkdwn(text)})
	}
	foot := "havip on " + n.Host
	if more := len(n.Alarms) - slackAlarms; more > 0 {
		foot += fmt.Sprintf(", %d more alarms: see havip events", more)
	}
	if n.Lost > 0 {
		foot += fmt.Sprintf(", %d before these were not told", n.Lost)
	}
	m.Blocks = append(m.Blocks, slackBlock{Type: "context", Elements: []*slackObject{mrkdwn(slackEscaper.Replace(foot))}})
	return json.Marshal(m)
}

// slackSign is what the eye sees first.
func slackSign(a *Alarm) string {
	switch {
	case a.State == Resolved:
		return ":white_check_mark:"
	case a.Severity == Critical:
		return ":red_circle:"
	case a.Severity == Warning:
		return ":warning:"
	}
	return ":information_source:"
}
