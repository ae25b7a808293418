package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/havip/havip/lb"
)

// certificatesEvery is how often the certificates of services are looked at. A reload,
// which may bring others, has them looked at as well.
const certificatesEvery = time.Hour

const day = 24 * time.Hour

// certificateSteps are the times before a certificate's end at which the log speaks of it,
// the last first, and how loud.
var certificateSteps = []struct {
	left  time.Duration
	level slog.Level
}{
	{0, slog.LevelError}, // it has ended
	{1 * day, slog.LevelError},
	{3 * day, slog.LevelError},
	{7 * day, slog.LevelWarn},
	{14 * day, slog.LevelWarn},
	{30 * day, slog.LevelInfo},
}

// noStep is the step of a certificate that is good for longer.
var noStep = len(certificateSteps)

// stepOf is where in certificateSteps a certificate stands. Steps count within the last
// quarter of its life only: certificates of ninety days are renewed when they have thirty
// left, and some live for less than a week.
func stepOf(c lb.CertificateInfo, now time.Time) int {
	left, quarter := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)/4
	for i, s := range certificateSteps {
		if left <= s.left && left <= quarter {
			return i
		}
	}
	return noStep
}

// certificateWatch says in the log when certificates of services are near their ends. It
// is for one goroutine.
type certificateWatch struct {
	log  *slog.Logger
	said map[string]saidOf // by service and file
}

// saidOf is what was said of a certificate.
type saidOf struct {
	step   int
	staple string // why it has no OCSP response; empty: it has, or needs none
}

// look speaks of the certificates that have come nearer to their ends, and of those that
// are good again; and so of their OCSP responses.
func (w *certificateWatch) look(services []ServiceView, now time.Time) {
	said := make(map[string]saidOf)
	for _, s := range services {
		for _, c := range s.Certificates() {
			key := s.Config.Name + "\x00" + c.Cert
			before, ok := w.said[key]
			if !ok {
				before.step = noStep
			}
			is := saidOf{step: stepOf(c, now)}
			w.say(s.Config.Name, c, is.step, before.step, now)
			is.staple = w.sayStaple(s.Config.Name, c, before.staple, now)
			said[key] = is
		}
	}
	w.said = said // services and files that are gone are forgotten
}

func (w *certificateWatch) say(service string, c lb.CertificateInfo, step, before int, now time.Time) {
	args := []any{"service", service, "names", strings.Join(c.Names, ", "), "file", c.Cert, "end", c.NotAfter.UTC().Format(time.RFC3339)}
	switch {
	case step == before:
	case step == 0:
		w.log.Error("certificate has ended", args...)
	case step < before:
		w.log.Log(context.Background(), certificateSteps[step].level, "certificate ends soon", append(args, "in", inDays(c.NotAfter.Sub(now)))...)
	case step == noStep:
		w.log.Info("certificate is good again", args...)
	default:
		// Another one, which is not good for long either.
		w.log.Info("certificate is good again", args...)
		w.say(service, c, step, noStep, now)
	}
}

// sayStaple speaks of the OCSP response of a certificate, if there is news, and returns what
// is wrong with it.
func (w *certificateWatch) sayStaple(service string, c lb.CertificateInfo, before string, now time.Time) string {
	args := []any{"service", service, "names", strings.Join(c.Names, ", "), "file", c.Cert}
	switch err := c.StapleError(now); {
	case err != nil && err.Error() != before:
		w.log.Warn("certificate has no OCSP response", append(args, "err", err)...)
		return err.Error()
	case err == nil && before != "":
		w.log.Info("certificate has its OCSP response again", args...)
		return ""
	}
	return before
}

// inDays prints a time for a person who may renew a certificate.
func inDays(d time.Duration) string {
	if d < 2*day {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d/day))
}

// run looks at start, then every hour and whenever changed has something, until ctx ends.
func (w *certificateWatch) run(ctx context.Context, services func() []ServiceView, changed <-chan struct{}) error {
	t := time.NewTicker(certificatesEvery)
	defer t.Stop()
	for {
		w.look(services(), time.Now())
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
