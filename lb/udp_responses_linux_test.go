package lb

import (
	"testing"
	"time"
)

// A resolver sends two questions from one port without waiting in between.
func TestUDPResponsesAreCountedPerRequest(t *testing.T) {
	release := make(chan struct{})
	u := udpWith(UDPConfig{Responses: 1})
	addr, stop := relayUDP(t, u, udpServer(t, udpSocket(t, "127.0.0.1:0"), func(q string) []string {
		if q == "AAAA" {
			<-release
		}
		return []string{q}
	}))
	c := dialUDPTest(t, addr)
	for _, q := range []string{"A", "AAAA"} {
		if _, err := c.Write([]byte(q)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"A", "AAAA"} {
		if got := readUDP(t, c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if want == "A" {
			close(release)
		}
	}
	waitFor(t, "the end after both answers", func() bool { return u.Stats().Active == 0 })
	stop()
	if st := u.Pool.Status().Backends[0]; st.Failures != 0 {
		t.Errorf("%+v, want no failure", st)
	}
}

// A backend that is asked and does not answer has failed, when the session is over.
func TestUDPMissingResponsesAreAFailure(t *testing.T) {
	server := udpServer(t, udpSocket(t, "127.0.0.1:0"), func(q string) []string {
		if q == "no" {
			return nil
		}
		return []string{q}
	})
	for name, tt := range map[string]struct {
		questions []string
		failures  uint64
	}{
		"none of one": {[]string{"no"}, 1},
		"one of two":  {[]string{"no", "yes"}, 1},
		"two of two":  {[]string{"yes", "yes"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			failures, inTime := missingResponses(t, server, tt.questions, 50*time.Millisecond)
			for idle := time.Second; !inTime && idle < 2*bound; idle *= 5 {
				failures, inTime = missingResponses(t, server, tt.questions, idle)
			}
			if failures != tt.failures || !inTime {
				t.Errorf("%d failures, want %d; questions and answers in time: %v", failures, tt.failures, inTime)
			}
		})
	}
}

// missingResponses asks questions by one session, and returns the failures of the backend
// when that has ended. On a busy machine an answer may come too late for the session: then
// the failures say nothing, and inTime is false.
func missingResponses(t *testing.T, server Backend, questions []string, idle time.Duration) (failures uint64, inTime bool) {
	t.Helper()
	u := udpWith(UDPConfig{Responses: 1, IdleTimeout: idle})
	addr, stop := relayUDP(t, u, server)
	defer stop()
	c := dialUDPTest(t, addr)
	begun := time.Now()
	for _, q := range questions {
		if _, err := c.Write([]byte(q)); err != nil {
			t.Fatal(err)
		}
		if q == "yes" {
			_ = c.SetReadDeadline(begun.Add(idle))
			if _, err := c.Read(make([]byte, 10)); err != nil {
				return 0, false
			}
		}
	}
	inTime = time.Since(begun) < idle
	waitFor(t, "the end", func() bool { st := u.Stats(); return st.Accepted > 0 && st.Active == 0 })
	return u.Pool.Status().Backends[0].Failures, inTime
}
