package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crypto/x509"

	"github.com/havip/havip/internal/config"
	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
	"github.com/havip/havip/lb"
)

// writeCertificate writes one that is valid for so long from now on, for www.example.org.
func writeCertificate(t *testing.T, file string, valid time.Duration) {
	t.Helper()
	c := labtest.Certificate(nil, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now(), time.Now().Add(valid)
	}, "www.example.org")
	cert, key := labtest.PEM(c)
	if err := os.WriteFile(file, append(cert, key...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateWatch: the log says once at each step that a certificate is near its end,
// and when that is over.
func TestCertificateWatch(t *testing.T) {
	for _, c := range []struct {
		name  string
		valid time.Duration
		renew map[int]time.Duration // after so many days: another one, valid for so long
		until int                   // days
		want  []string              // day, level, message and in
	}{
		{"of a year", 365 * day, nil, 366, []string{"335 INFO certificate ends soon 30 days", "351 WARN certificate ends soon 14 days", "358 WARN certificate ends soon 7 days",
			"362 ERROR certificate ends soon 3 days", "364 ERROR certificate ends soon 24 hours", "365 ERROR certificate has ended "}},
		{"of ninety days", 90 * day, nil, 93, []string{"67 INFO certificate ends soon 22 days", "76 WARN certificate ends soon 14 days", "83 WARN certificate ends soon 7 days",
			"87 ERROR certificate ends soon 3 days", "89 ERROR certificate ends soon 24 hours", "90 ERROR certificate has ended "}},
		{"renewed in time", 90 * day, map[int]time.Duration{61: 90 * day, 122: 90 * day}, 180, nil},
		{"renewed late", 90 * day, map[int]time.Duration{78: 90 * day}, 100,
			[]string{"67 INFO certificate ends soon 22 days", "76 WARN certificate ends soon 14 days", "78 INFO certificate is good again "}},
		{"renewed for less than it had", 90 * day, map[int]time.Duration{70: 4 * day}, 74, // a fresh one of four days is good
			[]string{"67 INFO certificate ends soon 22 days", "70 INFO certificate is good again ", "73 ERROR certificate ends soon 24 hours", "74 ERROR certificate has ended "}},
		{"of six days, renewed every four", 6 * day, map[int]time.Duration{4: 6 * day, 8: 6 * day, 12: 6 * day}, 14, nil},
		{"of six days, not renewed", 6 * day, nil, 7, []string{"4 ERROR certificate ends soon 36 hours", "5 ERROR certificate ends soon 24 hours", "6 ERROR certificate has ended "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				file := filepath.Join(t.TempDir(), "web.pem")
				writeCertificate(t, file, c.valid)
				certs, err := lb.NewCertificates(lb.CertificateFile{Cert: file, Key: file})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				w := &certificateWatch{log: slog.New(recordFunc(func(r slog.Record) {
					in := ""
					r.Attrs(func(a slog.Attr) bool {
						if a.Key == "in" {
							in = a.Value.String()
						}
						return true
					})
					got = append(got, fmt.Sprintf("%d %v %s %s", int(r.Time.Sub(began)/day), r.Level, r.Message, in))
				}))}
				services := []ServiceView{{Config: config.Service{Name: "web"}, service: &service{tls: encryption{front: &tls.Config{}, certificates: certs}}}}
				ctx, cancel := context.WithCancel(t.Context())
				changed := make(chan struct{}, 1)
				go w.run(ctx, func() []ServiceView { return services }, changed)
				for d := range c.until {
					if valid, ok := c.renew[d]; ok {
						writeCertificate(t, file, valid)
						if err := certs.Reload(); err != nil {
							t.Fatal(err)
						}
						changed <- struct{}{}
					}
					time.Sleep(day)
				}
				time.Sleep(time.Minute)
				cancel()
				synctest.Wait()
				if !slices.Equal(got, c.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

// recordFunc is a log's handler.
type recordFunc func(slog.Record)

func (recordFunc) Enabled(context.Context, slog.Level) bool        { return true }
func (f recordFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }
func (f recordFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f recordFunc) WithGroup(string) slog.Handler                 { return f }

// TestCertificatesOfServices: a daemon speaks of them when it begins, and of those that a
// reload brings.
func TestCertificatesOfServices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.pem")
	c := labtest.Certificate(nil, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-90*day), time.Now().Add(50*time.Hour)
	}, "www.example.org")
	cert, key := labtest.PEM(c)
	if err := os.WriteFile(file, append(cert, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`services: [{name: web, listen: "127.0.0.1:%s", backends: ["127.0.0.1:1"], tls: {certificates: [%s]}}]`, freePort(t), file)
	out := &labtest.Log{}
	log, err := NewLog(out, config.Log{Level: "info", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	d := startLogging(t, text, log.Logger)
	want := fmt.Sprintf(`level=ERROR msg="certificate ends soon" service=web names=www.example.org file=%s end=%s in="2 days"`, file, c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	lab.Eventually(t, 20*time.Second, "it is near its end", func() error {
		if !strings.Contains(out.String(), want) {
			return fmt.Errorf("%s is not in %s", want, out)
		}
		return nil
	})
	if got := d.View().Services[0].Certificates(); len(got) != 1 || got[0].Cert != file || !got[0].NotAfter.Equal(c.Leaf.NotAfter) || got[0].Names[0] != "www.example.org" {
		t.Errorf("got %+v", got)
	}
	writeCertificate(t, file, 90*day)
	if err := d.Reconfigure(parse(t, text)); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, 20*time.Second, "it is good again", func() bool { return strings.Contains(out.String(), `msg="certificate is good again" service=web`) })
}
