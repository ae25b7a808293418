//go:build unix

package healthcheck

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// output takes in what a program writes and keeps the beginning of it. It goes
// on reading until nobody is left who could write: a daemon that the program
// leaves behind would otherwise be killed by its first line (SIGPIPE).
type output struct {
	ended chan struct{} // closed then

	mu   sync.Mutex
	kept []byte
}

// capture returns the writing end of a pipe for a program that runs with
// credential, nil for ours. It is to be closed once the program has it.
func capture(credential *syscall.Credential) (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	// A descriptor that can be read too makes the program a reader of its own
	// pipe: what it leaves behind outlives this process as well, until the
	// pipe is full. Only Linux lets us.
	if both, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), os.O_RDWR, 0); err == nil {
		w.Close()
		w = both
	}
	if credential != nil { // for programs that open /dev/stderr; without it all else works
		_ = w.Chown(int(credential.Uid), int(credential.Gid))
	}
	o := &output{ended: make(chan struct{})}
	go o.drain(r)
	return o, w, nil
}

func (o *output) drain(r *os.File) {
	defer close(o.ended)
	defer r.Close()
	buf := make([]byte, maxOutput)
	for {
		n, err := r.Read(buf)
		o.mu.Lock()
		o.kept = append(o.kept, buf[:min(n, maxOutput-len(o.kept))]...)
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// text returns what the program has written, now that it has ended. What it
// left behind may go on for ever.
func (o *output) text() []byte {
	select {
	case <-o.ended:
	case <-time.After(outputGrace):
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.TrimSpace(bytes.Clone(o.kept))
}
