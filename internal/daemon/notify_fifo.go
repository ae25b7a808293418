package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/retry"
)

// prepareFIFOs finds out whether the FIFOs that come with a change can be opened. Those
// of before are open, or are tried again.
func prepareFIFOs(c *change, before *config.Config) error {
	known := map[string]bool{"": true} // none to open
	for _, n := range notifyConfigs(before) {
		known[n.NotifyFIFO] = true
	}
	for _, n := range notifyConfigs(c.cfg) {
		if known[n.NotifyFIFO] {
			continue
		}
		known[n.NotifyFIFO] = true
		f, err := openFIFO(n.NotifyFIFO)
		f.Close()
		if err := c.cannot(located(n.pos, "notify_fifo", err)); err != nil {
			return err
		}
	}
	return nil
}

// reconfigureFIFO goes on with another FIFO. n.mu is held.
func (n *notifier) reconfigureFIFO(path string) {
	if n.fifo != nil && n.fifo.to.(*fifo).path == path {
		return
	}
	n.closeFIFO()
	if path == "" {
		return
	}
	f, err := openFIFO(path)
	if err != nil {
		n.log.Error("the FIFO cannot be opened yet", "path", path, "err", err)
	}
	n.fifo = &queue{to: f, all: n.forFIFO, last: n.forFIFO}
}

func (n *notifier) closeFIFO() {
	if n.fifo != nil {
		n.fifo.to.(*fifo).Close()
		n.fifo.waiting = nil
		n.fifo = nil
	}
}

// line is what a FIFO gets, in the form of Keepalived's vrrp_notify_fifo.
func (n *notifier) line(x notice) string {
	return fmt.Sprintf("%s \"%s\" %s %d\n", n.kind, n.name, x.state, x.priority)
}

func (f *fifo) String() string { return f.path }

func (f *fifo) wants(notice) bool { return true }

// tell waits until there is a FIFO with room for the line. The reason for the wait is
// a warning once, and then at debug.
func (f *fifo) tell(ctx context.Context, n *notifier, x notice) {
	var failed error
	said := ""
	retry.Until(ctx, func(ctx context.Context) error {
		failed = f.write(ctx, n.line(x))
		if errors.Is(failed, fs.ErrClosed) {
			failed = nil
		}
		return failed
	}, func(err error, pause time.Duration) {
		level := slog.LevelWarn
		if err.Error() == said {
			level = slog.LevelDebug
		}
		said = err.Error()
		n.log.Log(context.Background(), level, "not written to the FIFO yet", "path", f.path, "state", x.state, "err", err, "retry", pause)
	})
	if failed != nil {
		n.log.Warn("not written to the FIFO", "path", f.path, "state", x.state, "err", failed)
	}
}
