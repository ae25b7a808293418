package quietlog

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

type state uint8

func (state) String() string { return "down" }

// TestReadable: text and JSON have the same words for the same values.
func TestReadable(t *testing.T) {
	joined := errors.Join(errors.New("one"), errors.Join(errors.New("two"), errors.New("three")))
	for name, tt := range map[string]struct {
		value any
		want  string
	}{
		"a duration":         {1500 * time.Millisecond, "1.5s"},
		"a state":            {state(2), "down"},
		"an address":         {netip.MustParseAddr("192.0.2.1"), "192.0.2.1"},
		"an error":           {errors.New("refused"), "refused"},
		"errors of one line": {joined, "one; two; three"},
		"a word":             {"word", "word"},
	} {
		var text, json bytes.Buffer
		opts := &slog.HandlerOptions{ReplaceAttr: Readable}
		slog.New(slog.NewTextHandler(&text, opts)).Warn("x", "k", tt.value)
		slog.New(slog.NewJSONHandler(&json, opts)).Warn("x", "k", tt.value)
		unquoted := strings.TrimSuffix(text.String(), "\n")
		unquoted = strings.ReplaceAll(unquoted[strings.Index(unquoted, "k=")+2:], `"`, "")
		if unquoted != tt.want {
			t.Errorf("%s: text %s, want %s", name, text.String(), tt.want)
		}
		if !strings.Contains(json.String(), `"k":"`+tt.want+`"`) {
			t.Errorf("%s: JSON %s, want %q", name, json.String(), tt.want)
		}
		if !strings.Contains(text.String(), "level=WARN") || !strings.Contains(json.String(), `"level":"WARN"`) {
			t.Errorf("%s: the level has changed: %s%s", name, text.String(), json.String())
		}
	}
}

// TestReadableNil: a nil pointer whose method panics is no reason to fail.
func TestReadableNil(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: Readable})).Warn("x", "k", (*url.URL)(nil), "err", nil)
	if !strings.Contains(b.String(), `"err":null`) {
		t.Errorf("said %s", b.String())
	}
}
