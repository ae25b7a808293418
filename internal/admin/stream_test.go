package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

// events opens a stream, and returns its lines. headers are pairs.
func (f *fixture) events(query string, headers ...string) (lines chan string, status int, leave func()) {
	f.Helper()
	ctx, cancel := context.WithCancel(f.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+f.tcp+"/api/v1/events/stream"+query, nil)
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	c := f.client(true)
	c.Timeout = 0
	answer, err := c.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	lines = make(chan string, 10000)
	go func() {
		defer close(lines)
		defer answer.Body.Close()
		for in := bufio.NewScanner(answer.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines, answer.StatusCode, cancel
}

// next returns the lines up to the blank one.
func (f *fixture) next(lines chan string) string {
	f.Helper()
	var block []string
	for {
		select {
		case l, ok := <-lines:
			if l == "" || !ok {
				return strings.Join(block, "\n")
			}
			block = append(block, l)
		case <-time.After(20 * time.Second):
			f.Fatalf("nothing comes behind %q", block)
		}
	}
}

func transition(router string) report.Event {
	return report.Event{Time: time.Now(), Level: "info", Kind: report.KindTransition, Message: "state", Router: router}
}

// TestStream: events come as they happen; who comes back goes on where it was; what is not
// kept any more is said to be lost, and the ID of another process counts as none.
func TestStream(t *testing.T) {
	f := start(t, nil)
	f.node.ring.Add(transition("VI_1"))
	f.node.ring.Add(transition("VI_2"))
	lines, status, leave := f.events("")
	if status != 200 {
		t.Fatal(status)
	}
	id := func(n int) string {
		return fmt.Sprintf("id: %d-%s\nevent: transition\ndata: {\"id\":%d,", n, f.s.instance, n)
	}
	want := func(lines chan string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if got := f.next(lines); !strings.HasPrefix(got, text) {
				t.Errorf("got %q, want %q", got, text)
			}
		}
	}
	want(lines, "retry: 1000", id(1), id(2))
	f.node.ring.Add(transition("VI_3"))
	want(lines, id(3))
	leave()
	for name, c := range map[string]struct {
		query, last string
		want        []string
	}{
		"after in the query":       {"?after=2", "", []string{"retry", id(3)}},
		"the ID of this process":   {"", "2-" + f.s.instance, []string{"retry", id(3)}},
		"the header comes first":   {"?after=1", "2", []string{"retry", id(3)}},
		"the ID of another one":    {"", "2-otherone", []string{"retry", id(1), id(2), id(3)}},
		"an ID that is not yet":    {"?after=100", "", []string{"retry", id(1)}},
		"all that there is so far": {"?after=3", "", []string{"retry"}},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if c.last != "" {
				headers = []string{"Last-Event-ID", c.last}
			}
			lines, _, leave := f.events(c.query, headers...)
			defer leave()
			want(lines, c.want...)
		})
	}
	for range 1500 {
		f.node.ring.Add(transition("VI_4"))
	}
	lines, _, leave = f.events("?after=3")
	defer leave()
	want(lines, "retry", "event: lost\ndata: {\"after\":3}", id(504))
	f.want("no number", f.ask("GET", "/api/v1/events/stream?after=x", ""), 400, "want the ID of an event")
	f.want("HEAD", f.ask("HEAD", "/api/v1/events/stream", ""), 200, "")
}

// TestEvents: those that are asked for, of those that are kept.
func TestEvents(t *testing.T) {
	f := start(t, nil)
	for i := range 5 {
		e := transition(fmt.Sprintf("VI_%d", i+1))
		e.Time = time.Now().Add(time.Duration(i-5) * time.Hour) // 5, 4, 3, 2, 1 hours ago
		f.node.ring.Add(e)
	}
	for _, c := range []struct {
		query  string
		status int
		want   string // of IDs, or of an error
	}{
		{"", 200, "1 2 3 4 5"}, {"?after=3", 200, "4 5"}, {"?after=5", 200, ""}, {"?limit=2", 200, "4 5"}, {"?limit=0", 200, ""},
		{"?since=150m", 200, "4 5"}, {"?since=-150m", 200, "4 5"}, {"?since=" + time.Now().Add(-90*time.Minute).UTC().Format(time.RFC3339), 200, "5"},
		{"?after=1&since=270m&limit=3", 200, "3 4 5"}, {"?limit=18446744073709551615", 200, "1 2 3 4 5"},
		{"?since=yesterday", 400, "since=yesterday: want a duration such as 10m, or a time such as 20"},
		{"?after=-1", 400, "after=-1: want a number, 0 or more"}, {"?limit=many", 400, "want a number"},
		{"?afer=1", 400, "did you mean after?"}, {"?after=1&after=2", 400, "parameter after is given twice"}, {"?%zz", 400, "the query of the path"},
		{"?x=1", 400, "want after, since or limit"},
	} {
		got := f.ask("GET", "/api/v1/events"+c.query, "")
		if c.status != 200 {
			f.want(c.query, got, c.status, c.want)
			continue
		}
		var ids []string
		for part := range strings.SplitSeq(got.body, `{"id":`) {
			if id, _, ok := strings.Cut(part, ","); ok && id != `{"events":[` && !strings.HasPrefix(id, "{") {
				ids = append(ids, id)
			}
		}
		if all := strings.Join(ids, " "); all != c.want || got.status != 200 {
			t.Errorf("%s: %d %s, want %s", c.query, got.status, all, c.want)
		}
	}
}

// TestSlowReaderOfEvents is cut off: it costs neither memory nor a wait of others.
func TestSlowReaderOfEvents(t *testing.T) {
	f := start(t, nil)
	c, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	gate := func() *gate { return f.gate("unix") }
	f.until("the stream is open", func() bool { return gate().streams.Load() == 1 })
	big := transition("VI_1")
	big.Message = strings.Repeat("x", 10000)
	began, before := time.Now(), memory()
	for gate().streams.Load() == 1 {
		if time.Since(began) > 30*time.Second {
			t.Fatal("it is never cut off")
		}
		for range 10 {
			f.node.ring.Add(big)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(began); took < takeTimeout/2 {
		t.Errorf("cut off after %v", took)
	}
	if grown := memory() - before; grown > 100<<20 {
		t.Errorf("%d MiB for one reader", grown>>20)
	}
	f.want("others", f.ask("GET", "@/healthz", ""), 200, "true")
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// gate is what serves the socket, or TCP.
func (f *fixture) gate(network string) *gate {
	f.Helper()
	d := f.s.doors[map[string]int{"unix": 0, "tcp": 1}[network]]
	f.until("it is open", func() bool { return d.gate.Load() != nil })
	return d.gate.Load()
}

// TestTooManyStreams: the one that is too many is told so, and gets its place when another
// one leaves.
func TestTooManyStreams(t *testing.T) {
	f := start(t, nil)
	var leave func()
	for range maxStreams {
		_, status, l := f.events("")
		if leave = l; status != 200 {
			t.Fatal(status)
		}
	}
	f.want("one more", f.ask("GET", "@/api/v1/events/stream", ""), 503, "too many streams of events: at most 64")
	f.want("anything else", f.ask("GET", "@/healthz", ""), 200, "true")
	leave()
	f.until("there is a place", func() bool {
		r, err := http.NewRequest("GET", "http://x/api/v1/events/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := f.client(true).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != 200 {
			_, _ = io.Copy(io.Discard, answer.Body)
		}
		return answer.StatusCode == 200
	})
}

// TestStreamsEnd with the server, at once.
func TestStreamsEnd(t *testing.T) {
	f := start(t, nil)
	lines, _, leave := f.events("")
	defer leave()
	f.next(lines)
	began := time.Now()
	f.stop()
	for range lines {
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
