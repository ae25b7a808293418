package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Answer is one good answer that a [Client] got.
type Answer struct {
	Time    time.Time
	Backend string // the name that the page shows
	LB      string // the LB_IP header: the load balancer that asked the backend
}

// Client asks for the page again and again, each time over a new connection,
// and records the times of good answers. Requests do not wait for one another: a
// request that hangs does not delay the next.
type Client struct {
	// URL is the page to ask for.
	URL string
	// Dial opens the connections.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Every is the time between two requests. Default 10 ms.
	Every time.Duration
	// Timeout ends one request. Default 1 s.
	Timeout time.Duration

	mu      sync.Mutex
	answers []Answer
	lastErr error
}

// maxInFlight bounds the requests that hang at one time.
const maxInFlight = 256

// Run asks until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	every, timeout := c.Every, c.Timeout
	if every == 0 {
		every = 10 * time.Millisecond
	}
	if timeout == 0 {
		timeout = time.Second
	}
	client := &http.Client{Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}}
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			a, err := ask(ctx, client, c.URL)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.lastErr = err
				return
			}
			a.Time = time.Now()
			c.answers = append(c.answers, a)
		})
	}
}

func ask(ctx context.Context, client *http.Client, url string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return Answer{}, err
	}
	if res.StatusCode != http.StatusOK {
		return Answer{}, fmt.Errorf("status %s", res.Status)
	}
	// The header's name has an underscore: Go's canonical form keeps it.
	return Answer{Backend: firstLine(body), LB: res.Header.Get("LB_IP")}, nil
}

func firstLine(b []byte) string {
	for i, c := range b {
		if c == '\n' || c == '\r' {
			return string(b[:i])
		}
	}
	return string(b)
}

// Since returns the good answers from t on, oldest first.
func (c *Client) Since(t time.Time) []Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, _ := slices.BinarySearchFunc(c.answers, t, func(a Answer, t time.Time) int { return a.Time.Compare(t) })
	return slices.Clone(c.answers[i:])
}

// LongestGap returns the longest time between two good answers from t until
// now, the ends counted.
func (c *Client) LongestGap(t time.Time) time.Duration {
	var longest time.Duration
	last := t
	for _, a := range c.Since(t) {
		longest = max(longest, a.Time.Sub(last))
		last = a.Time
	}
	return max(longest, time.Since(last))
}

// errNoAnswer is what Wait returns, wrapped with the last failure seen.
var errNoAnswer = errors.New("no such answer in time")

// Wait returns the first good answer from t on that ok accepts.
func (c *Client) Wait(ctx context.Context, t time.Time, ok func(Answer) bool) (Answer, error) {
	for {
		for _, a := range c.Since(t) {
			if ok(a) {
				return a, nil
			}
		}
		select {
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			return Answer{}, fmt.Errorf("%w; last failure: %v", errNoAnswer, c.lastErr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// count says how many answers each name gave, as "APP-01 33, APP-02 33".
func count(answers []Answer, name func(Answer) string) string {
	n := map[string]int{}
	for _, a := range answers {
		n[name(a)]++
	}
	var s string
	for i, k := range slices.Sorted(maps.Keys(n)) {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%s %d", k, n[k])
	}
	return s
}
