package lb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// newTestBody is the body of a request for the attempts of a Handler.
func newTestBody(body io.Reader) *replayBody {
	return newReplayBody(httptest.NewRequest("PUT", "/", body), http.NewResponseController(httptest.NewRecorder()),
		&HandlerConfig{MaxHeader: defaultMaxHeader, MaxFields: defaultMaxFields, ClientTimeout: bound})
}

// TestNextAttemptGetsTheWholeBody: also what comes while an earlier attempt still waits for
// it. What is here already does not wait.
func TestNextAttemptGetsTheWholeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		b := newTestBody(pr)
		first := b.newReader()
		read := func(r io.Reader) <-chan string {
			got := make(chan string, 1)
			go func() {
				p := make([]byte, 10)
				n, _ := r.Read(p)
				got <- string(p[:n])
			}()
			return got
		}
		expect := func(what string, got <-chan string, want string) {
			t.Helper()
			select {
			case s := <-got:
				if s != want {
					t.Errorf("%s: %q, want %q", what, s, want)
				}
			case <-time.After(bound):
				t.Fatalf("%s: nothing comes", what)
			}
		}
		got := read(first)
		io.WriteString(pw, "ab")
		expect("the first attempt", got, "ab")
		waits := read(first)
		synctest.Wait() // it waits for the client
		second := b.newReader()
		expect("the second attempt", read(second), "ab")
		got = read(second)
		synctest.Wait()
		io.WriteString(pw, "cd")
		expect("the first attempt", waits, "cd")
		expect("the second attempt", got, "cd")
		pw.Close()
		if rest, err := io.ReadAll(second); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestBodyThatCannotBeReplayed: another attempt would send half of it, or one with a hole.
func TestBodyThatCannotBeReplayed(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		body io.Reader
		end  error // of the first attempt
		want bool
	}{
		{"what can be kept", strings.NewReader(strings.Repeat("a", replayLimit)), nil, true},
		{"a byte more", strings.NewReader(strings.Repeat("a", replayLimit+1)), nil, false},
		{"broken", io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), broken, false},
	} {
		b := newTestBody(tt.body)
		if _, err := io.Copy(io.Discard, b.newReader()); err != tt.end {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.end)
		}
		if b.replayable() != tt.want {
			t.Errorf("%s: replayable %v, want %v", tt.name, !tt.want, tt.want)
		}
	}
	// An attempt may have begun before that was known.
	b := newTestBody(strings.NewReader(strings.Repeat("a", replayLimit+10)))
	first := b.newReader()
	for _, n := range []int64{replayLimit + 5, 5} {
		if _, err := io.CopyN(io.Discard, first, n); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.newReader().Read(make([]byte, 5)); n > 0 || err != errBodyOver {
		t.Errorf("with a hole: %d bytes, %v, want %v", n, err, errBodyOver)
	}
	b = newTestBody(strings.NewReader("a"))
	b.stopReading()
	if n, err := b.newReader().Read(make([]byte, 1)); n > 0 || err != errBodyOver {
		t.Errorf("after the end: %d bytes, %v, want %v", n, err, errBodyOver)
	}
}

// TestReadBeyondTheLimitIsForTheNextAttempt: a read that began before the next attempt may bring
// more than is kept otherwise. From then on only the present attempt reads.
func TestReadBeyondTheLimitIsForTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		b := newTestBody(pr)
		first := b.newReader()
		const before, brought = replayLimit - 10, 30
		ended := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, first, before+brought)
			ended <- err
		}()
		_, _ = pw.Write(numbered(before + brought)[:before])
		synctest.Wait() // the first attempt waits for more
		if !b.replayable() {
			t.Fatal("another attempt gets no whole body")
		}
		second := b.newReader()
		_, _ = pw.Write(numbered(before + brought)[before:])
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if n, err := first.Read(make([]byte, 1)); n != 0 || err != errBodyOver {
			t.Errorf("the first attempt goes on: %d, %v", n, err)
		}
		pw.Close()
		if got, err := io.ReadAll(second); !bytes.Equal(got, numbered(before+brought)) || err != nil {
			t.Errorf("the second attempt: %d bytes, %v, want %d", len(got), err, before+brought)
		}
		if b.replayable() {
			t.Error("what is beyond the limit is for the attempt alone that has begun")
		}
	})
}

// TestEndOfABodyIsAwaited: a read that is under way may bring it.
func TestEndOfABodyIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		b := newTestBody(pr)
		go io.Copy(io.Discard, b.newReader())
		synctest.Wait()
		whole := make(chan bool, 1)
		go func() { whole <- b.cameWhole() }()
		synctest.Wait()
		select {
		case got := <-whole:
			t.Fatal("it is not awaited:", got)
		default:
		}
		pw.Close()
		if !<-whole {
			t.Error("the body has an end")
		}
	})
}

// TestLostBodyIsNoFailure: of the backend that would have got it.
func TestLostBodyIsNoFailure(t *testing.T) {
	for err, want := range map[error]Result{errBodyOver: Neutral, errStale: Neutral, io.EOF: Failure} {
		if got := (attempt{replayable: true}).blame(fmt.Errorf("attempt: %w", err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
