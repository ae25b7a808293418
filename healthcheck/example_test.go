package healthcheck_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/havip/havip/healthcheck"
)

// A check of one's own: healthy while the server's answer, the length of its
// queue, is below a limit.
func Example_customChecker() {
	queue := func(url string, limit int) healthcheck.CheckerFunc {
		return func(ctx context.Context) error {
			var length int
			if err := getNumber(ctx, url, &length); err != nil {
				return err
			}
			if length > limit {
				return fmt.Errorf("%d jobs are waiting, want at most %d", length, limit)
			}
			return nil
		}
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "120") }))
	defer server.Close()
	fmt.Println(queue(server.URL, 200).Check(context.Background()))
	fmt.Println(queue(server.URL, 100).Check(context.Background()))
	// Output:
	// <nil>
	// 120 jobs are waiting, want at most 100
}

func getNumber(ctx context.Context, url string, n *int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text := make([]byte, 20)
	size, _ := resp.Body.Read(text)
	*n, err = strconv.Atoi(string(text[:size]))
	return err
}

// A Monitor that feeds a channel: the service comes up and breaks later.
func ExampleMonitor() {
	var broken atomic.Bool
	monitor, err := healthcheck.NewMonitor(healthcheck.Config{
		Name: "service",
		Checker: healthcheck.CheckerFunc(func(context.Context) error {
			if broken.Load() {
				return errors.New("it is broken")
			}
			return nil
		}),
		Interval: 10 * time.Millisecond,
		Fall:     3,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	changes := make(chan healthcheck.Status)
	cancel := monitor.Subscribe(func(s healthcheck.Status) { changes <- s })
	defer cancel()

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- monitor.Run(ctx) }()

	fmt.Println((<-changes).State) // the first result decides
	broken.Store(true)
	s := <-changes
	fmt.Printf("%v after %d failures: %v\n", s.State, s.Failures, s.WhyDown())

	stop()
	fmt.Println(<-done)
	// Output:
	// up
	// down after 3 failures: it is broken
	// <nil>
}

// A server that greets: the connection alone would not tell that it works.
func ExampleTCP() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 mail.example.com ESMTP\r\n")
		}
	}()

	check := healthcheck.TCP{Address: l.Addr().String(), ExpectRegexp: regexp.MustCompile(`^220 `)}
	fmt.Println(check.Check(context.Background()))
	// Output: <nil>
}

func ExampleHTTP() {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()

	check := healthcheck.HTTP{URL: server.URL, Status: []healthcheck.StatusRange{{Min: 200, Max: 299}, {Min: 404, Max: 404}}}
	fmt.Println(check.Check(context.Background()))
	// Output: <nil>
}

func ExampleExec() {
	check := healthcheck.Exec{Path: "/bin/sh", Args: []string{"-c", "echo the disk is full; exit 1"}}
	fmt.Println(check.Check(context.Background()))

	missing := healthcheck.Exec{Path: "/usr/local/bin/no-such-program"}
	fmt.Println(errors.Is(missing.Check(context.Background()), healthcheck.ErrCannotRun))
	// Output:
	// healthcheck: exec /bin/sh: exit status 1: "the disk is full"
	// true
}
