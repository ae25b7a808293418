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

// leftovers are outputs that are still read after the end of their programs, by the
// programs' paths, the oldest first. No other lock is taken under this one.
var leftovers = struct {
	sync.Mutex
	of map[string][]*output
}{of: map[string][]*output{}}

// output reads what a program writes and keeps the beginning. After a program that has
// ended by itself, output reads until no process has the pipe open for writing: a daemon
// that the program leaves behind would otherwise be killed by its first line (SIGPIPE),
// or wait for a reader.
type output struct {
	path  string // the program's
	r     *os.File
	ended chan struct{} // closed when nothing is read any more

	mu   sync.Mutex
	kept []byte
}

// capture returns an output for the program path, which runs with credential (nil: that of
// this process), and the writing end of its pipe. The caller closes the writing end once
// the program has started.
func capture(path string, credential *syscall.Credential) (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	// With a descriptor that is open for reading too, the program is a reader of its
	// own pipe. So a daemon that it leaves behind survives the end of this process,
	// until the pipe is full. Only Linux can open a pipe in this way.
	if both, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), os.O_RDWR, 0); err == nil {
		w.Close()
		w = both
	}
	if credential != nil { // for programs that open /dev/stderr; without it all else works
		_ = w.Chown(int(credential.Uid), int(credential.Gid))
	}
	o := &output{path: path, r: r, ended: make(chan struct{})}
	go o.drainPipe()
	return o, w, nil
}

func (o *output) drainPipe() {
	defer o.listLeftover()
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

// writtenText returns what the program has written. It waits for the end of the output for
// outputGrace at most: a process that the program left behind may write for ever.
func (o *output) writtenText() []byte {
	select {
	case <-o.ended:
	case <-time.After(outputGrace):
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.TrimSpace(bytes.Clone(o.kept))
}

// programEnded bounds how long reading goes on after the program's end. The output of a
// program that was killed is closed. That of a program that ended by itself joins the
// leftovers. Both happen after outputGrace: most outputs end before, and so do not displace
// the output of a daemon among the leftovers.
func (o *output) programEnded(byItself bool) {
	end := func() { o.r.Close() } // the drain ends too
	if byItself {
		end = o.listLeftover
	}
	time.AfterFunc(outputGrace, end)
}

// listLeftover adds o to the leftovers or, if it has ended, takes it away. If there are too
// many leftovers, the oldest is closed.
func (o *output) listLeftover() {
	leftovers.Lock()
	defer leftovers.Unlock()
	of := slices.DeleteFunc(leftovers.of[o.path], func(other *output) bool { return other == o })
	select {
	case <-o.ended:
	default:
		of = append(of, o)
	}
	if len(of) > maxLeftovers {
		of[0].r.Close()
		of = slices.Delete(of, 0, 1)
	}
	if leftovers.of[o.path] = of; len(of) == 0 {
		delete(leftovers.of, o.path)
	}
}
