package e2e

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/vrrp"
)

// TestEmbed: a program with failover inside it, as short as README has it, dies as
// well as the daemon does: the address is soon on the other host, and never on both for
// longer than the lease.
func TestEmbed(t *testing.T) {
	lab.Need(t, "keepalived")
	t.Parallel()
	lab.New(t) // or say why there cannot be labs
	embed, address := embedPeer(t)
	first := embed
	first.state += vrrp.Active.String() // priorities are equal: LB-02 is not to start before that
	causes := []*cause{
		{name: "SIGTERM", told: true, strike: signal(syscall.SIGTERM)},
		{name: "SIGKILL", told: true, strike: signal(syscall.SIGKILL)},
		{name: "program and guard killed at once", leased: true, strike: killAll},
		{name: "SIGSTOP", leased: true, strike: signal(syscall.SIGSTOP), heal: wake, healed: lb02},
	}
	var trials []*trial
	for _, c := range causes {
		for _, other := range []peer{embed, keepalivedPeer} {
			trials = append(trials, &trial{interval: time.Second, address: address, peers: [2]peer{first, other}, cause: c})
		}
	}
	results := make(map[*trial][]result)
	runTrials(t, trials, 1, len(trials), results)
	t.Logf("until LB-02 answers, in parentheses how much of it nobody does:\n%s", deathTable(trials, results))
}

// wake lets a stopped program go on, and waits until the program has noticed.
func wake(s *stage) error {
	said := "now " + vrrp.Backup.String()
	output := s.nodes[0].cmd.Output
	before := strings.Count(output(), said)
	if err := s.nodes[0].cmd.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	return s.until("LB-01 is a Backup again", func() bool { return strings.Count(output(), said) > before })
}

// embedPeer runs examples/embed with the command line that its README has, and tells
// the address that this names.
func embedPeer(t testing.TB) (peer, netip.Prefix) {
	readme, err := os.ReadFile("../../examples/embed/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(readme), "# ./embed ")
	line, _, _ = strings.Cut(line, "\n")
	args := strings.Fields(line)
	address, err := netip.ParsePrefix(args[len(args)-1])
	if err != nil {
		t.Fatalf("the command in examples/embed/README.md ends with %q: %v", line, err)
	}
	argv := append([]string{built(t, "examples/embed")}, args...)
	return peer{name: "embed", state: "INFO now ", configure: func(*node, []virtualRouter, string) ([]string, error) { return argv, nil }}, address
}
