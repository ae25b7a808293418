package lb

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/internal/quietlog"
)

// story is a pool's log without the time.
type story struct{ labtest.Log }

func (s *story) logger(level slog.Level) *slog.Logger {
	return slog.New(quietlog.Unblocked(slog.NewTextHandler(s, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})))
}

// want checks what was said since it was called last.
func (s *story) want(t *testing.T, what string, lines ...string) {
	t.Helper()
	want := ""
	for _, line := range lines {
		want += "level=" + line + "\n"
	}
	if got := s.String(); got != want {
		t.Errorf("%s: the log says\n%swant\n%s", what, got, want)
	}
	s.Reset()
}

// TestLossOutlastsAnEmptyPool: a pool that has lost its backends, and then has none for a
// while, as when a name is not resolved, says so when one is there again.
func TestLossOutlastsAnEmptyPool(t *testing.T) {
	var log story
	bs := backends(1)
	p := newPool(t, PoolConfig{Name: "web", Backends: bs, Logger: log.logger(slog.LevelInfo)})
	p.SetHealth("a", errors.New("refused"))
	if err := p.Update(nil); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	if err := p.Update(bs); err != nil {
		t.Fatal(err)
	}
	p.SetHealth("a", nil)
	log.want(t, "one is back", `INFO msg="pool has working backends again" pool=web up=1`)
}

// TestLosingBackends: each that is lost is a warning with the reason and how many are
// left, the last one an error, once, and what comes back is told once, too.
func TestLosingBackends(t *testing.T) {
	var log story
	bs := backends(1, 1)
	p := newPool(t, PoolConfig{Name: "web", Backends: bs, Logger: log.logger(slog.LevelInfo)})
	refused := errors.New("http http://192.0.2.1:80/: status 500")
	log.want(t, "all is well")
	p.SetHealth("a", refused)
	log.want(t, "one of two", `WARN msg="backend is down" pool=web backend=a up=1 backends=2 err="http http://192.0.2.1:80/: status 500"`)
	p.SetHealth("a", errors.New("still"))
	log.want(t, "the same one again")
	p.SetHealth("b", refused)
	log.want(t, "both", `WARN msg="backend is down" pool=web backend=b up=0 backends=2 err="http http://192.0.2.1:80/: status 500"`,
		`ERROR msg="pool has no working backends" pool=web down=2 ejected=0 draining=0`)
	p.SetDrain("a", true)
	p.SetDrain("a", false)
	if err := p.Update(bs); err != nil {
		t.Fatal(err)
	}
	log.want(t, "what makes no difference", `INFO msg="backend drain" pool=web backend=a drain=true`, `INFO msg="backend drain" pool=web backend=a drain=false`)
	p.SetHealth("b", nil)
	log.want(t, "one is back", `INFO msg="backend is up" pool=web backend=b up=1 backends=2`, `INFO msg="pool has working backends again" pool=web up=1`)
	p.SetHealth("a", nil)
	log.want(t, "both are back", `INFO msg="backend is up" pool=web backend=a up=2 backends=2`)
	p.SetHealth("a", refused)
	p.SetHealth("b", refused)
	log.Reset()
	if err := p.Update(nil); err != nil {
		t.Fatal(err)
	}
	log.want(t, "the end of a pool")
}

// TestFallingBack: that the backups serve is a warning, that nothing does an error.
func TestFallingBack(t *testing.T) {
	var log story
	bs := backends(1, 1, 1)
	bs[2].Backup = true
	p := newPool(t, PoolConfig{Name: "web", Backends: bs, Panic: 50, Logger: log.logger(slog.LevelInfo)})
	p.SetHealth("a", errDown)
	log.Reset()
	p.SetHealth("b", errDown)
	log.want(t, "no primary", `WARN msg="backend is down" pool=web backend=b up=1 backends=3 err="`+errDown.Error()+`"`,
		`WARN msg="pool is below its quorum" pool=web up=1 down=2 backups=true`)
	p.SetHealth("c", errDown)
	log.want(t, "no backup either", `WARN msg="backend is down" pool=web backend=c up=0 backends=3 err="`+errDown.Error()+`"`,
		`ERROR msg="pool has no working backends" pool=web down=3 ejected=0 draining=0`)
	p.SetHealth("a", nil)
	log.want(t, "a primary", `INFO msg="backend is up" pool=web backend=a up=1 backends=3`, `INFO msg="pool has working backends again" pool=web up=1`,
		`INFO msg="pool has its quorum again" pool=web up=1`)
}

// TestEjectionsAreLosses: a pool without checks whose backends all fail is lost as any
// other.
func TestEjectionsAreLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log story
		p := newPool(t, PoolConfig{Name: "web", Backends: backends(1, 1), Logger: log.logger(slog.LevelInfo)})
		use := func(r Result) {
			for range 2 {
				pick, err := p.Pick(new(Flow))
				if err != nil {
					t.Fatal(err)
				}
				pick.Done(r)
			}
		}
		use(Failure)
		log.want(t, "both fail", `WARN msg="backend ejected" pool=web backend=a up=1 backends=2 failures=1 for=10s`,
			`WARN msg="backend ejected" pool=web backend=b up=0 backends=2 failures=1 for=10s`,
			`ERROR msg="pool has no working backends" pool=web down=0 ejected=2 draining=0`)
		use(Failure)
		log.want(t, "they go on failing")
		time.Sleep(11 * time.Second)
		use(Success)
		log.want(t, "both work", `INFO msg="backend readmitted" pool=web backend=a`,
			`INFO msg="pool has working backends again" pool=web up=1`, `INFO msg="backend readmitted" pool=web backend=b`)
	})
}

// TestPoolDebug: each change of a pool can be followed.
func TestPoolDebug(t *testing.T) {
	var log story
	p := newPool(t, PoolConfig{Name: "web", Backends: backends(1, 1), Logger: log.logger(slog.LevelDebug)})
	p.SetHealth("a", errDown)
	if want := `level=DEBUG msg="pool changes" pool=web up=1 down=1 ejected=0 draining=0`; !strings.Contains(log.String(), want) {
		t.Errorf("the log says\n%swant %s", log.String(), want)
	}
}

// TestCauseOfAnEjection: that a backend fails is told before what becomes of it.
func TestCauseOfAnEjection(t *testing.T) {
	for name, cause := range map[string]string{"tcp": "backend not reached", "http": "backend failed"} {
		var log story
		p := newPool(t, PoolConfig{Name: "web", Backends: []Backend{closedBackend(t)}, Logger: log.logger(slog.LevelInfo)})
		if name == "tcp" {
			addr, stop := relay(t, tcpWith(TCPConfig{Pool: p, Logger: log.logger(slog.LevelInfo)}))
			_, _ = io.ReadAll(dialTest(t, addr))
			stop()
		} else {
			s := httptest.NewServer(newHandler(t, HandlerConfig{Pool: p, Logger: log.logger(slog.LevelInfo)}))
			res, err := s.Client().Get(s.URL)
			body(t, res, err)
			s.Close()
		}
		first, then := strings.Index(log.String(), cause), strings.Index(log.String(), "backend ejected")
		if first < 0 || then < first {
			t.Errorf("%s: want %q before \"backend ejected\":\n%s", name, cause, log.String())
		}
	}
}

// TestUnresolvedOnce: a name without an answer is a warning when that begins, and not
// each time that it is looked up.
func TestUnresolvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log story
		ok := time.Now().Add(time.Minute)
		p := newPool(t, PoolConfig{Name: "web", Backends: []Backend{{Name: "a", Address: "app.test:80"}}, Logger: log.logger(slog.LevelInfo),
			Resolver: hostsOf(func(string) ([]string, error) {
				if time.Now().Before(ok) {
					return nil, errors.New("no such host")
				}
				return []string{"192.0.2.1"}, nil
			})})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		time.Sleep(time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		log.want(t, "a minute without an answer",
			`WARN msg="backend not resolved" pool=web backend=a host=app.test err="no such host" stays=app.test:80`,
			`INFO msg="backend is resolved again" pool=web backend=a host=app.test`,
			`INFO msg="backend resolved" pool=web backend=a host=app.test addresses=192.0.2.1:80`)
	})
}
