package labtest

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/havip/havip/internal/lab"
)

// Recorder is an HTTP backend that keeps what it gets, byte by byte. It knows nothing but
// lines, lengths and chunks: what it takes for a request is what the plainest server would.
type Recorder struct {
	Address string // of its listener

	answer func(c net.Conn, request string)

	bytes    Log
	mu       sync.Mutex // guards requests
	requests []string
}

// Record serves a port of the loopback interface until the end of the test. answer is
// called for each request that has come whole, with its bytes, and writes what it likes
// to the connection; it may close it.
func Record(t lab.TB, answer func(c net.Conn, request string)) *Recorder {
	t.Helper()
	r := &Recorder{answer: answer}
	r.Address = Listen(t, r.serve)
	return r
}

// Answers returns an answer of [Record] that gives one of the texts to each request, in
// their order, and the last one to all further requests.
func Answers(texts ...string) func(net.Conn, string) {
	var mu sync.Mutex
	return func(c net.Conn, _ string) {
		mu.Lock()
		text := texts[0]
		if len(texts) > 1 {
			texts = texts[1:]
		}
		mu.Unlock()
		_, _ = io.WriteString(c, text)
	}
}

// Bytes returns all that has come since the last call, in the order of its coming, of
// requests that are not complete too.
func (r *Recorder) Bytes() string {
	return r.bytes.Take()
}

// Requests returns the requests that came whole since the last call, each with its head,
// body and trailer as they came.
func (r *Recorder) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests := r.requests
	r.requests = nil
	return requests
}

// serve reads requests, one after the other.
func (r *Recorder) serve(c net.Conn) {
	in := bufio.NewReader(io.TeeReader(c, &r.bytes))
	for {
		request, err := readRequest(in)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.requests = append(r.requests, request)
		r.mu.Unlock()
		r.answer(c, request)
	}
}

// readRequest returns the bytes of a request.
func readRequest(in *bufio.Reader) (string, error) {
	r := requestReader{in: in}
	err := r.readHead()
	if err == nil && r.chunked {
		err = r.readChunks()
	} else if err == nil {
		err = r.readBytes(r.length)
	}
	return r.text.String(), err
}

// requestReader keeps what it reads of one request.
type requestReader struct {
	in      *bufio.Reader
	text    strings.Builder
	length  int64
	chunked bool
}

// readLine returns a line without its end.
func (r *requestReader) readLine() (string, error) {
	line, err := r.in.ReadString('\n')
	r.text.WriteString(line)
	return strings.TrimSuffix(line, "\r\n"), err
}

func (r *requestReader) readBytes(n int64) error {
	_, err := io.CopyN(&r.text, r.in, n)
	return err
}

// readHead reads to the empty line, and finds out how the body is framed.
func (r *requestReader) readHead() error {
	for {
		line, err := r.readLine()
		if err != nil || line == "" {
			return err
		}
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			if r.length, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
				return err
			}
		case "transfer-encoding":
			r.chunked = true
		}
	}
}

// readChunks reads to the empty line after the last chunk and the trailer.
func (r *requestReader) readChunks() error {
	for {
		line, err := r.readLine()
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(line, 16, 64)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if err := r.readBytes(size + int64(len("\r\n"))); err != nil {
			return err
		}
	}
	for {
		if line, err := r.readLine(); err != nil || line == "" {
			return err
		}
	}
}
