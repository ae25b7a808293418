package client

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

// write makes a file of the test.
func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestNewRefuses: a mistake is found before anybody is asked.
func TestNewRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"no scheme":         {Config{URL: "lb-01:9650"}, "want one such as https://lb-01:9650"},
		"another scheme":    {Config{URL: "ftp://lb-01"}, "want one such as"},
		"a path":            {Config{URL: "https://lb-01:9650/api"}, "want one such as"},
		"a password":        {Config{URL: "https://a:b@lb-01:9650"}, "want one such as"},
		"a token in clear":  {Config{URL: "http://lb-01:9650", TokenFile: write(t, "t")}, "want https for a token"},
		"no token file":     {Config{URL: "https://lb-01", TokenFile: "/nowhere/token"}, "token: open /nowhere/token: no such file"},
		"an empty token":    {Config{URL: "https://lb-01", TokenFile: write(t, "\n")}, "want one word"},
		"two words":         {Config{URL: "https://lb-01", TokenFile: write(t, "a b")}, "want one word"},
		"a large file":      {Config{URL: "https://lb-01", TokenFile: write(t, strings.Repeat("a", largestToken+1))}, "want one word"},
		"no authority file": {Config{URL: "https://lb-01", CA: "/nowhere/ca"}, "authority: open /nowhere/ca"},
		"no certificate":    {Config{URL: "https://lb-01", CA: write(t, "text")}, "no certificate in it: want PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestTLS: an authority is needed for a certificate that the system does not know, and the
// token goes along.
func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error": "wrong token"}`)
			return
		}
		fmt.Fprint(w, `{"node": {"host": "LB-01"}}`)
	}))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	for name, tt := range map[string]struct {
		cfg  Config
		want string // of the error; empty: none
	}{
		"all is right": {Config{CA: ca, TokenFile: write(t, "secret\n")}, ""},
		"no authority": {Config{TokenFile: write(t, "secret")}, "name its authority with --ca"},
		"no token":     {Config{CA: ca}, "wrong token"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.URL = s.URL + "/"
			c, err := New(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Status(t.Context())
			switch {
			case tt.want == "" && (err != nil || got.Node.Host != "LB-01"):
				t.Errorf("%+v, %v", got, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestRedirectIsNotFollowed: the token stays with whom it is for.
func TestRedirectIsNotFollowed(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	defer s.Close()
	c, err := New(Config{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "302 Found: is it a havip?") {
		t.Errorf("error %v, want the answer", err)
	}
}

// TestAway: who does not answer in time is away; who ends the question is not told so.
func TestAway(t *testing.T) {
	asked := make(chan struct{}, 2)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	c, err := New(Config{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := c.Status(ctx); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), s.URL+" in time") {
		t.Errorf("error %v, want ErrAway and where", err)
	}
	<-asked
	ctx, stop = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := c.Resign(ctx, "VI_1"); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "is not known") {
		t.Errorf("error %v: nobody knows whether the router resigns", err)
	}
	<-asked
	ctx, stop = context.WithCancel(t.Context())
	go func() {
		<-asked
		stop()
	}()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrAway) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// TestFollow goes on behind the latest event, by the ID of the stream.
func TestFollow(t *testing.T) {
	var began []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began = append(began, r.Header.Get("Last-Event-ID"))
		fmt.Fprintf(w, ": hello\n\nid: %d-x\nevent: check\ndata: {\"id\":%d}\n\ndata: {\"id\":99}", 6+len(began), 6+len(began))
	}))
	defer s.Close()
	c, err := New(Config{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	stream := c.Stream(6)
	var got []uint64
	note := func(e report.Event) error { got = append(got, e.ID); return nil }
	for range 2 {
		if err := stream.Follow(t.Context(), note); !errors.Is(err, ErrAway) {
			t.Errorf("error %v, want ErrAway", err)
		}
	}
	if !slices.Equal(got, []uint64{7, 8}) || !slices.Equal(began, []string{"6", "7-x"}) {
		t.Errorf("events %v from %q on; what has no end is no event", got, began)
	}
	full := errors.New("full")
	if err := stream.Follow(t.Context(), func(report.Event) error { return full }); !errors.Is(err, full) {
		t.Errorf("error %v, want that of the function", err)
	}
}

// FuzzStream: whatever comes instead of a stream is an error or events.
func FuzzStream(f *testing.F) {
	f.Add("id: 1-x\nevent: check\ndata: {\"id\":1}\n\n")
	f.Add("event: lost\ndata: {}\n\n")
	f.Add(": comment\n\ndata: {}\ndata: {}\n\n") // two lines of data, no JSON together
	f.Add("data\nid\n\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &Stream{client: &Client{}, Lost: func() {}}
		in := bufio.NewScanner(strings.NewReader(text))
		err := s.read(in, func(report.Event) error { return io.EOF })
		if errors.Is(err, io.EOF) && !strings.Contains(text, "data") {
			t.Errorf("an event in %q", text)
		}
	})
}
