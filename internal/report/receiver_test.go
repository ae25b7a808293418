package report

import (
	"errors"
	"testing"
	"time"
)

// TestReceiver: a receiver that fails for long is a problem, until something arrives.
func TestReceiver(t *testing.T) {
	s := healthy()
	s.Alarms = []Receiver{{Name: "ops"}}
	r := &s.Alarms[0]
	step := func(after time.Duration, err error, want string) {
		t.Helper()
		s.Node.Time = s.Node.Time.Add(after)
		r.Count(s.Node.Time, err)
		got := ""
		if list := s.FindProblems(); len(list) > 0 {
			got = list[0]
		}
		if got != want {
			t.Errorf("problem %q, want %q", got, want)
		}
	}
	refused := errors.New("connection refused")
	step(0, refused, "")
	step(failsLong-time.Second, refused, "")
	step(time.Second, refused, "ops: alarms are not delivered for 5m: connection refused")
	step(time.Second, nil, "")
	step(failsLong, refused, "")
	if r.Delivered != 1 || r.Failed != 4 || r.Error != "connection refused" || !r.ErrorAt.Equal(s.Node.Time) {
		t.Errorf("counted %+v", r)
	}
}
