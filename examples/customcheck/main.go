// Customcheck shows a health check of one's own: a replica counts as healthy
// while it is less than two seconds behind. The program plays the replica
// itself, prints every change of state, and ends after a few seconds.
//
//	go run ./examples/customcheck
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/havip/havip/healthcheck"
)

// lag is the check: one function, here with a target that fits on one screen.
// A real one would ask the database.
func lag(replica *replica, limit time.Duration) healthcheck.CheckerFunc {
	return func(context.Context) error {
		if behind := replica.behind(time.Now()); behind > limit {
			return fmt.Errorf("%v behind, want at most %v", behind.Round(time.Second), limit)
		}
		return nil
	}
}

// replica stops replicating for three seconds of its life.
type replica struct{ stops time.Time }

func (r *replica) behind(now time.Time) time.Duration {
	if now.Before(r.stops) || now.After(r.stops.Add(3*time.Second)) {
		return 0
	}
	return now.Sub(r.stops)
}

func main() {
	log.SetFlags(0)
	start := time.Now()
	monitor, err := healthcheck.NewMonitor(healthcheck.Config{
		Name:     "replica",
		Checker:  lag(&replica{stops: start.Add(time.Second)}, 2*time.Second),
		Interval: 200 * time.Millisecond,
		Rise:     3,
		Fall:     2,
	})
	if err != nil {
		log.Fatal(err)
	}
	// The consumer: in a real program it moves an address or drains a backend.
	cancel := monitor.Subscribe(func(s healthcheck.Status) {
		fmt.Printf("%4.1fs  %s is %v", time.Since(start).Seconds(), s.Name, s.State)
		if err := s.WhyDown(); err != nil {
			fmt.Printf(": %v", err)
		}
		fmt.Println()
	})
	defer cancel()

	ctx, stop := context.WithTimeout(context.Background(), 6*time.Second)
	defer stop()
	if err := monitor.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
