package healthcheck

import (
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

const patience = 150 * time.Millisecond

func TestTCP(t *testing.T) {
	banner := regexp.MustCompile(`^SSH-2\.0-\S+\r\n`)
	pong := TCP{Send: []byte("PING\r\n"), Expect: []byte("+PONG")}
	pongAt := func(address string) TCP { c := pong; c.Address = address; return c }
	// A reply in pieces, the expected bytes torn in two, after junk that makes
	// the buffer grow.
	pieces := func(c net.Conn) {
		for _, p := range []string{strings.Repeat("x", 5000), "+PO", "NG"} {
			_, _ = c.Write([]byte(p))
			time.Sleep(20 * time.Millisecond)
		}
		drain(c)
	}
	echo := func(c net.Conn) {
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		if string(buf[:n]) == "PING\r\n" {
			_, _ = c.Write([]byte("+PONG\r\n"))
		}
		drain(c)
	}
	runCheckCases(t, []checkCase{
		{name: "open", checker: TCP{Address: labtest.Listen(t, silent)}},
		{name: "open, program hangs: found only with Expect", checker: TCP{Address: halfOpen(t)}},
		{name: "refused", checker: TCP{Address: lab.FreeAddress(t)}, want: "connection refused"},
		{name: "no SYN-ACK", checker: TCP{Address: blackHole(t)}, patience: patience, is: isTimeout},
		{name: "no such host", checker: TCP{Address: "host.invalid:80"}, want: "host.invalid"},

		{name: "good reply", checker: pongAt(labtest.Listen(t, echo))},
		{name: "good reply in pieces", checker: pongAt(labtest.Listen(t, pieces))},
		{name: "slow reply", checker: pongAt(labtest.Listen(t, says(300*time.Millisecond, "+PONG")))},
		{name: "too slow", checker: pongAt(labtest.Listen(t, says(time.Minute, "+PONG"))), patience: patience, is: isTimeout},
		{name: "wrong reply, stays open", checker: pongAt(labtest.Listen(t, says(0, "-ERR\r\n"))), patience: patience, is: isTimeout},
		{name: "wrong reply, closes", checker: pongAt(labtest.Listen(t, saysAndCloses("-ERR\r\n"))), want: `unexpected reply "-ERR\r\n" (EOF)`},
		{name: "half-open", checker: pongAt(halfOpen(t)), patience: patience, is: isTimeout},
		{name: "silent", checker: pongAt(labtest.Listen(t, silent)), patience: patience, is: isTimeout},
		{name: "closes without a reply", checker: pongAt(labtest.Listen(t, saysAndCloses(""))), want: "closed without a reply"},
		{name: "oversized reply", checker: pongAt(labtest.Listen(t, flood)), want: `unexpected reply "junk junk`},

		{name: "regexp matches a banner", checker: TCP{Address: labtest.Listen(t, says(0, "SSH-2.0-OpenSSH_9.2\r\n")), ExpectRegexp: banner}},
		{name: "regexp does not match", checker: TCP{Address: labtest.Listen(t, saysAndCloses("SSH-1.5\r\n")), ExpectRegexp: banner}, want: "unexpected reply"},
	})
	wantCancellable(t, pongAt(halfOpen(t)))
}

// silence is a connection whose peer has sent only these bytes.
type silence struct {
	io.Reader
	io.Writer
}

func saidOnly(text string) silence {
	return silence{io.MultiReader(strings.NewReader(text), iotest.ErrReader(os.ErrDeadlineExceeded)), io.Discard}
}

func TestReadUntil(t *testing.T) {
	pong := func(b []byte) bool { return matches(b, []byte("+PONG"), nil) }
	if err := readUntil(saidOnly("x+PONG"), pong); err != nil {
		t.Error(err)
	}
	err := readUntil(saidOnly("-ERR\r\n"), pong)
	if want := `unexpected reply "-ERR\r\n" (timed out)`; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestReadUntilInPieces: however small the pieces of a reply are, the searches cost no more
// than some searches of the whole reply, and the end of the reply is not missed.
func TestReadUntilInPieces(t *testing.T) {
	const end = "+PONG"
	searched := 0
	pong := func(b []byte) bool {
		searched += len(b)
		return matches(b, []byte(end), nil)
	}
	junk := strings.Repeat("x", maxReply-len(end))
	for name, r := range map[string]io.Reader{
		"to the bound": strings.NewReader(junk + end + "and more"), "closes": strings.NewReader(junk[1:] + end), "stays open": saidOnly(junk[1:] + end),
	} {
		searched = 0
		if err := readUntil(iotest.OneByteReader(r), pong); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if searched > maxSearch+maxReply {
			t.Errorf("%s: %d bytes were searched", name, searched)
		}
	}
}

func TestTCPValidate(t *testing.T) {
	for _, address := range []string{"", "host", "host:", ":80", "host:http:x", "::1:80", "host:99999", "host:http"} {
		if err := (TCP{Address: address}).Validate(); err == nil {
			t.Errorf("address %q is accepted", address)
		}
	}
	for _, address := range []string{"host:80", "192.0.2.1:1", "[2001:db8::1]:443"} {
		if err := (TCP{Address: address}).Validate(); err != nil {
			t.Errorf("address %q: %v", address, err)
		}
	}
}
