package lb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowdSizes are of bodies: around what an event loop sends together with others, and what it
// reads at once.
var crowdSizes = []int{0, 1, 300, 4 << 10, 16<<10 - 200, 16<<10 - 1, 16 << 10, 16<<10 + 1, 40 << 10, 200 << 10}

// crowdBody is what belongs to a request with that number, and to no other.
func crowdBody(id int) []byte {
	mark := fmt.Sprintf("<%d>", id)
	n := crowdSizes[id%len(crowdSizes)]
	return []byte(strings.Repeat(mark, n/len(mark)+1)[:n])
}

// TestCrowd: many clients at once, which pipeline requests, read slowly, or leave in the middle,
// each get their own responses, whole and in order, and backends their bodies.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s, h := front(t, HandlerConfig{}, webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.URL.Path[1:])
		got, err := io.ReadAll(r.Body)
		if want := crowdBody(id); err == nil && r.Method == http.MethodPost && !bytes.Equal(got, want) {
			t.Errorf("the backend has got %d bytes for %d, want %d", len(got), id, len(want))
		}
		b := crowdBody(id)
		if id%3 == 0 {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		} else { // in chunks, and in two writes
			_, _ = w.Write(b[:len(b)/2])
			_ = http.NewResponseController(w).Flush()
			b = b[len(b)/2:]
		}
		_, _ = w.Write(b)
	}))
	clients := 48
	if testing.Short() {
		clients = 16
	}
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			if err := crowdClient(t, s.Listener.Addr().String(), n); err != nil {
				t.Errorf("client %d: %v", n, err)
			}
		})
	}
	all.Wait()
	waitFor(t, "all requests to end", func() bool { return h.Stats().Active == 0 })
}

// crowdClient asks in bursts; one of three clients is slow, and some leave in the middle.
func crowdClient(t *testing.T, address string, n int) error {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	c := dialTest(t, address)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(6 * bound))
	slow := n%3 == 0
	if slow {
		_ = c.SetReadBuffer(4 << 10)
	}
	r := bufio.NewReader(c)
	for burst := range 6 {
		var said bytes.Buffer
		var methods []string
		first := n*1000 + burst*100
		for i := range 1 + random.IntN(8) {
			method, body := http.MethodGet, []byte(nil)
			if random.IntN(2) == 0 {
				method, body = http.MethodPost, crowdBody(first+i)
			}
			methods = append(methods, method)
			fmt.Fprintf(&said, "%s /%d HTTP/1.1\r\nHost: x\r\n", method, first+i)
			if method == http.MethodPost {
				fmt.Fprintf(&said, "Content-Length: %d\r\n", len(body))
			}
			fmt.Fprintf(&said, "\r\n%s", body)
		}
		go c.Write(said.Bytes())
		if n%10 == 9 && burst == 3 { // leaves
			_ = c.SetLinger(0)
			return nil
		}
		for i, method := range methods {
			if slow {
				time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
			}
			res, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				return fmt.Errorf("response %d of burst %d: %w", i, burst, err)
			}
			got, err := io.ReadAll(res.Body)
			if want := crowdBody(first + i); res.StatusCode != 200 || !bytes.Equal(got, want) {
				return errors.Join(fmt.Errorf("response %d of burst %d: %d with %d bytes, want %d", i, burst, res.StatusCode, len(got), len(want)), err)
			}
		}
	}
	return nil
}
