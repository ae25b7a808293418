package lb

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

func TestMessagesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out labtest.Log
		log := limitedLog(slog.New(quietlog.Unblocked(slog.NewTextHandler(&out, nil))))
		for range 1000 {
			log.Warn("flood")
		}
		if n := strings.Count(out.String(), "flood"); n != logLimit.Burst {
			t.Errorf("%d messages at once, want %d", n, logLimit.Burst)
		}
		time.Sleep(time.Second)
		out.Reset()
		for range 1000 {
			log.With("a", 1).Warn("flood")
		}
		if got := out.String(); strings.Count(got, "flood") != 10 || !strings.Contains(got, "a=1 dropped=980") {
			t.Errorf("a second later:\n%s", got)
		}
	})
	limitedLog(nil).Warn("nobody hears this")
}
