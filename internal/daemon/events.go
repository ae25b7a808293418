package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/havip/havip/internal/quietlog"
	"github.com/havip/havip/internal/report"
)

// maxEvents is how many events are kept.
const maxEvents = 1000

// eventHandler makes an event of each record at Info and above that is one, see kindOf,
// and passes all records on to the log's handler, which goes by the log's level. It stands
// behind the queues and limits: a line that a limit mutes is no event.
type eventHandler struct {
	log   slog.Handler
	ring  *report.Ring
	with  []grouped // of the logger
	group string    // that attributes belong to, with a dot at its end; empty: none
}

// grouped is an attribute of a group of the logger.
type grouped struct {
	group string
	attr  slog.Attr
}

// maxText and maxAttributes bound what an event keeps of a line: the answer of a server, or
// the output of a program, may be in it.
const (
	maxText       = 1024
	maxAttributes = 32
)

// Enabled leaves out Debug, unless the log wants it: such lines are many, and no events.
func (h *eventHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.log.Enabled(ctx, level)
}

// Handle never waits for a reader of events.
func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		if kind := kindOf(r.Message, r.Level); kind != "" {
			h.ring.Add(h.event(kind, &r))
		}
	}
	if !h.log.Enabled(ctx, r.Level) {
		return nil
	}
	return h.log.Handle(ctx, r)
}

func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := slices.Clone(h.with)
	for _, a := range attrs {
		with = append(with, grouped{h.group, a})
	}
	return &eventHandler{h.log.WithAttrs(attrs), h.ring, with, h.group}
}

func (h *eventHandler) WithGroup(name string) slog.Handler {
	return &eventHandler{h.log.WithGroup(name), h.ring, h.with, h.group + name + "."}
}

// event is what a record says.
func (h *eventHandler) event(kind string, r *slog.Record) report.Event {
	e := report.Event{Time: r.Time, Level: strings.ToLower(r.Level.String()), Kind: kind, Message: shortened(r.Message)}
	for _, w := range h.with {
		addAttribute(&e, w.group, w.attr)
	}
	r.Attrs(func(a slog.Attr) bool {
		addAttribute(&e, h.group, a)
		return true
	})
	e.Cause = takeCause(&e)
	return e
}

// addAttribute gives e the value of an attribute, in the words of the log.
func addAttribute(e *report.Event, group string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			addAttribute(e, group, member)
		}
		return
	}
	if a.Key == "" {
		return
	}
	key, value := group+a.Key, shortened(quietlog.Readable(nil, a).Value.String())
	field := map[string]*string{"router": &e.Router, "group": &e.Group, "check": &e.Check, "service": &e.Service, "pool": &e.Service, "backend": &e.Backend}[key]
	// A router's multicast group has the key of a group of routers.
	if field == nil || *field != "" || key == "group" && e.Router != "" {
		if len(e.Attributes) < maxAttributes {
			e.Attributes = append(e.Attributes, report.Attribute{Key: key, Value: value})
		}
		return
	}
	*field = value
}

// shortened leaves out what is too much of a text, and is a text of its own: a short piece
// must not keep a long one in memory.
func shortened(text string) string {
	if len(text) <= maxText {
		return text
	}
	const end = " ..."
	return strings.ToValidUTF8(text[:maxText-len(end)], "") + end
}

// takeCause takes out of an event's attributes the one that says why it happened.
func takeCause(e *report.Event) string {
	for _, key := range []string{"cause", "reason", "err"} {
		i := slices.IndexFunc(e.Attributes, func(a report.Attribute) bool { return a.Key == key })
		if i >= 0 {
			value := e.Attributes[i].Value
			e.Attributes = slices.Delete(e.Attributes, i, i+1)
			return value
		}
	}
	return ""
}
