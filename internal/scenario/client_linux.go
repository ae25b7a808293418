package scenario

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
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
	// Every is the time between two requests.
	Every time.Duration
	// Timeout ends one request.
	Timeout time.Duration

	mu      sync.Mutex
	answers []Answer
	lastErr error
}

// maxInFlight bounds the requests that hang at one time.
const maxInFlight = 256

// Run asks until ctx ends.
func (c *Client) Run(ctx context.Context) {
	client := &http.Client{Timeout: c.Timeout, Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}}
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.Tick(c.Every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
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
	name, _, _ := strings.Cut(string(body), "\n")
	// The header's name has an underscore: Go's canonical form keeps it.
	return Answer{Backend: name, LB: res.Header.Get("LB_IP")}, nil
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

// lastError is why the last request failed that did.
func (c *Client) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastErr
}

// count says how many answers each name gave, as "APP-01 33, APP-02 33".
func count(answers []Answer, name func(Answer) string) string {
	n := map[string]int{}
	for _, a := range answers {
		n[name(a)]++
	}
	var counts []string
	for _, k := range slices.Sorted(maps.Keys(n)) {
		counts = append(counts, fmt.Sprintf("%s %d", k, n[k]))
	}
	return strings.Join(counts, ", ")
}
