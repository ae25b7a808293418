package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// startHTTPS runs a service in mode http with TLS on lb01, port 443, and one without TLS on
// port 80, and waits until it answers.
func startHTTPS(t *testing.T, l *lab.Lab, backend string) (h, client *lab.Host) {
	t.Helper()
	h, client = l.MustHost("lb01", "192.168.31.240/24"), l.MustHost("client", "192.168.31.10/24")
	file := filepath.Join(t.TempDir(), "web.pem")
	labtest.WriteCertificate(t, file, "www.example.org")
	startReloader(t, h, fmt.Sprintf(`services:
  - {name: web, listen: ":443", mode: http, backends: ["%[1]s"], tls: {certificates: [%[2]s]}}
  - {name: plain, listen: ":80", mode: http, backends: ["%[1]s"]}
`, backend, file))
	lab.Eventually(t, 30*time.Second, "the service answers", func() error {
		c, err := dialTLS(t.Context(), client, "192.168.31.240:443", "www.example.org")
		if err == nil {
			c.Close()
		}
		return err
	})
	return h, client
}

// h2specExceptions are the cases of h2spec that havip does not pass, and why that is no
// fault. havip speaks HTTP/2 to clients by net/http.
var h2specExceptions = map[string]string{
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            "net/http ends connections whose SETTINGS name a parameter twice: no client does that",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                       "answered with 400, which a server may do (RFC 9113 §8.1.1)",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "answered with 400, which a server may do (RFC 9113 §8.1.1)",
}

// h2specPlain are those without TLS, where the beginning of a connection decides on the protocol.
var h2specPlain = map[string]string{
	"http2/3.5: Sends invalid connection preface": "not HTTP/2 then: answered with 400 as HTTP/1.1 has it, and the end of the connection",
}

// h2specCase is a case in h2spec's JUnit report.
type h2specCase struct {
	Section string `xml:"package,attr"`
	What    string `xml:"classname,attr"`
	Failure string `xml:"failure"`
	Error   string `xml:"error"`
}

func (c h2specCase) name() string { return c.Section + ": " + c.What }
func (c h2specCase) fails() bool  { return c.Failure+c.Error != "" }

// TestH2Spec: the conformance tests of HTTP/2 pass, with TLS and without, but for the exceptions
// that are argued above, and none of those has become superfluous.
func TestH2Spec(t *testing.T) {
	lab.Need(t, "h2spec")
	t.Parallel()
	l := lab.New(t)
	app := l.MustHost("app", "192.168.31.242/24")
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })}
	go web.Serve(mustListen(t, app, ":8080"))
	t.Cleanup(func() { web.Close() })
	_, client := startHTTPS(t, l, "192.168.31.242:8080")
	t.Run("TLS", func(t *testing.T) { testH2Spec(t, client, h2specExceptions, "-t", "-k", "-p", "443") })
	t.Run("without TLS", func(t *testing.T) {
		exceptions := maps.Clone(h2specExceptions)
		maps.Copy(exceptions, h2specPlain)
		testH2Spec(t, client, exceptions, "-p", "80")
	})
}

// testH2Spec runs h2spec with the arguments front.
func testH2Spec(t *testing.T, client *lab.Host, exceptions map[string]string, front ...string) {
	report := filepath.Join(t.TempDir(), "report.xml")
	run := func(args ...string) (all []h2specCase) {
		t.Helper()
		c := client.Command("h2spec", slices.Concat(args, front, []string{"--strict", "-h", "192.168.31.240", "-j", report})...)
		_ = c.Run() // fails if a case does
		b, err := os.ReadFile(report)
		var suites struct {
			Cases []h2specCase `xml:"testsuite>testcase"`
		}
		if err == nil {
			err = xml.Unmarshal(b, &suites)
		}
		if err != nil {
			t.Fatalf("%v: %v\n%s", c, err, c.Output())
		}
		return suites.Cases
	}
	all := run()
	if len(all) < 140 {
		t.Errorf("%d cases, want at least 140", len(all))
	}
	left := len(exceptions)
	for _, c := range all {
		_, known := exceptions[c.name()]
		switch {
		case known && !c.fails():
			t.Errorf("%s: passes, and is still in the list of exceptions", c.name())
		case known:
			left--
		case c.fails():
			// Once more and with more time: its cases have 2 s, and this machine may be busy.
			for _, again := range run(c.Section, "-o", "20") {
				if again.name() == c.name() && again.fails() {
					t.Errorf("%s: %s%s", c.name(), again.Failure, again.Error)
				}
			}
		}
	}
	if left != 0 {
		t.Errorf("%d exceptions are no cases any more, or passed", left)
	}
}

// TestHTTPSFirstRequest: the first request of a client without TCP_NODELAY does not wait
// for a delayed acknowledgement of the handshake, in either protocol.
func TestHTTPSFirstRequest(t *testing.T) {
	t.Parallel()
	const connections = 8
	l := lab.New(t)
	// No backend, for its connections would count as well.
	h, client := startHTTPS(t, l, "192.168.31.240:9")
	// Clients say no more than they must: what comes after the answer may be acknowledged late.
	for protocol, ask := range map[string]func(c net.Conn) error{
		"http/1.1": func(c net.Conn) error {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err := c.Read(make([]byte, 1))
			return err
		},
		"h2": func(c net.Conn) error {
			fmt.Fprint(c, http2.ClientPreface)
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
				_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			for {
				answer, err := f.ReadFrame()
				if err != nil || answer.Header().Type == http2.FrameHeaders {
					return err
				}
			}
		},
	} {
		before := labtest.DelayedACKs(t, h)
		for range connections {
			raw, err := client.DialContext(t.Context(), "tcp", "192.168.31.240:443")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close() // at the end, for the same reason
			_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
			_ = raw.(*net.TCPConn).SetNoDelay(false)
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
			if err := ask(c); err != nil || c.ConnectionState().NegotiatedProtocol != protocol {
				t.Fatalf("%s: %v", protocol, err)
			}
		}
		if n := labtest.DelayedACKs(t, h) - before; n > connections/4 {
			t.Errorf("%s: %d of %d connections were held up", protocol, n, connections)
		}
	}
}
