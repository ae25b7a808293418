//go:build unix

package healthcheck

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// maxLeftovers is how many outputs of one program are read on after its end.
const maxLeftovers = 16

// leftovers are the outputs that are read though their programs have ended, by
// the programs' paths, the oldest first. Its lock is a leaf.
var leftovers = struct {
	sync.Mutex
	of map[string][]*output
}{of: map[string][]*output{}}

// output takes in what a program writes and keeps the beginning of it. Of a
// program that ends by itself it goes on reading until nobody is left who could
// write: a daemon that the program leaves behind would otherwise be killed by its
// first line (SIGPIPE), or wait for a reader.
type output struct {
	path  string // the program's
	r     *os.File
	ended chan struct{} // closed when nothing is read any more

	mu   sync.Mutex
	kept []byte
}

// capture returns the writing end of a pipe for the program path that runs with
// credential, nil for ours. It is to be closed once the program has it.
func capture(path string, credential *syscall.Credential) (*output, *os.File, error) {
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
	o := &output{path: path, r: r, ended: make(chan struct{})}
	go o.drain()
	return o, w, nil
}

func (o *output) drain() {
	defer o.forget()
	defer close(o.ended)
	defer o.r.Close()
	buf := make([]byte, maxOutput)
	for {
		n, err := o.r.Read(buf)
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

// programEnded bounds how long reading goes on after the program's end. Whoever
// holds the output of a program that was killed is not waited for. Of those whose
// program ended by itself the newest are. Most outputs end right away, and are
// not to push out what a daemon writes, so that all get outputGrace.
func (o *output) programEnded(byItself bool) {
	end := func() { o.r.Close() } // the drain ends too
	if byItself {
		end = o.remember
	}
	time.AfterFunc(outputGrace, end)
}

// remember adds o, if it has not ended, to the leftovers, and closes the oldest one
// of too many.
func (o *output) remember() {
	leftovers.Lock()
	defer leftovers.Unlock()
	select {
	case <-o.ended: // forget has been called, or will be
		return
	default:
	}
	of := append(leftovers.of[o.path], o)
	if len(of) > maxLeftovers {
		of[0].r.Close()
		of = slices.Delete(of, 0, 1)
	}
	leftovers.of[o.path] = of
}

func (o *output) forget() {
	leftovers.Lock()
	defer leftovers.Unlock()
	of := slices.DeleteFunc(leftovers.of[o.path], func(other *output) bool { return other == o })
	if len(of) == 0 {
		delete(leftovers.of, o.path)
		return
	}
	leftovers.of[o.path] = of
}
