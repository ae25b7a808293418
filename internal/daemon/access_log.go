package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/havip/havip/lb"
)

// The size of the access log's buffer, in records, and the pause between warnings
// that records did not fit in.
const (
	accessLogBuffer = 8192
	accessLogReport = 10 * time.Second
)

// recorder returns a function for the records of a service. It never blocks.
func recorder(log *lb.ConnLog, service string) func(lb.Record) {
	return func(r lb.Record) {
		if r.Service == "" { // the connection was over before a pool was chosen
			r.Service = service
		}
		log.Record(r)
	}
}

// runAccessLog writes the records of services to the logger to until ctx ends, and
// warns of lost records in log.
func runAccessLog(ctx context.Context, access *lb.ConnLog, log, to *slog.Logger) error {
	ticker := time.NewTicker(accessLogReport)
	defer ticker.Stop()
	known := uint64(0)
	report := func() {
		if n := access.Dropped(); n != known {
			log.Warn("access log: the log is too slow, some is lost", "records", n-known)
			known = n
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- access.Run(ctx, to) }()
	for {
		select {
		case <-ticker.C:
			report()
		case err := <-ended:
			report()
			return err
		}
	}
}
