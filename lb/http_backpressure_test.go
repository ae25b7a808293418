package lb

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestClientThatReadsNothingStopsTheBackend: of a large response the backend gets rid of what the
// kernel's buffers on the way hold, and no more, until the client reads; this process holds next
// to nothing of it. Then the response comes whole, compressed or not.
func TestClientThatReadsNothingStopsTheBackend(t *testing.T) {
	const (
		size = 64 << 20
		most = 24 << 20 // 6 MiB to receive and 4 MiB to send are what sockets grow to, and a client of HTTP/2 takes 4 MiB
		heap = 12 << 20
	)
	fronts := trapFronts()
	if *onEngine {
		fronts = fronts[2:3] // the others are no news there
	}
	for _, front := range fronts {
		for _, encoding := range []string{"identity", "gzip", "zstd"} {
			t.Run(encoding+"/"+front.name, func(t *testing.T) {
				stopped, sum := make(chan int, 1), sha256.New()
				cfg := compressing(EncodingGzip, EncodingZstd)
				s := front.serve(t, cfg, rawBackend(t, func(c net.Conn, r *bufio.Reader) {
					if _, err := http.ReadRequest(r); err == nil {
						fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
						sendNoise(c.(*net.TCPConn), size, sum, stopped)
						discard(c, r)
					}
				}))
				client := s.bareClient(t)
				before := heldHere()
				res, err := getEncoded(t, client, s.url, encoding)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				select {
				case sent := <-stopped:
					held := heldHere() - before
					if t.Logf("the backend has sent %d KiB, %d KiB are held here", sent>>10, held>>10); sent > most || held > heap {
						t.Errorf("the backend was stopped after %d bytes, and %d are held here; want %d and %d at most", sent, held, most, heap)
					}
				case <-time.After(bound):
					t.Fatal("the backend goes on")
				}
				got := sha256.New()
				content := io.Reader(res.Body)
				if e := res.Header.Get("Content-Encoding"); e == "gzip" {
					content, err = gzip.NewReader(res.Body)
				} else if e != "" {
					content = newDecoder(t, EncodingZstd, res.Body)
				}
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(got, content)
				if err != nil || n != size || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
	}
}

// sendNoise sends what cannot be compressed, and adds it to sum. When nothing was taken for a
// while it says how much was until then, once.
func sendNoise(c *net.TCPConn, size int, sum hash.Hash, stopped chan<- int) {
	noise := rand.NewChaCha8([32]byte{1})
	_ = c.SetWriteBuffer(64 << 10)
	piece := make([]byte, 64<<10)
	for sent := 0; sent < size; {
		_, _ = noise.Read(piece)
		sum.Write(piece)
		for rest := piece; len(rest) > 0; {
			if stopped != nil {
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			}
			n, err := c.Write(rest)
			rest, sent = rest[n:], sent+n
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded) && stopped != nil:
				stopped <- sent
				stopped = nil
				_ = c.SetWriteDeadline(time.Time{})
			case err != nil:
				return
			}
		}
	}
}

// heldHere returns what the process holds in memory that is not garbage.
func heldHere() int {
	runtime.GC()
	runtime.GC() // pools keep what is not in use through one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
