package lb

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
)

// heldBody is the body of a request, or the beginning of one, which has come before a backend
// gets it: in memory as far as that goes, and then in a file that has no name. It is used by
// one goroutine at a time.
type heldBody struct {
	store *bodyStore
	file  *os.File // nil: memory is enough
	filed int64    // bytes in the file
	tail  []byte   // what comes after those
	last  int64    // how many there will be; negative: not known

	copied bool // sendfile(2) does not work with the file
}

// bodyStore is where held bodies are. Several settings may count their files together.
type bodyStore struct {
	memory int64  // how much of a body is in memory
	folder string // of the files
	total  int64  // bytes that all files may have together
	used   *atomic.Int64
}

// Why a file may not grow, though its disk may have room.
var (
	errStoreFull = errors.New("the files of all bodies together are as large as they may be")
	// errStoreShare: whoever sends one endless body must not have all others streamed.
	errStoreShare = errors.New("the file of this body would be larger than half of what is left for those of others")
)

// leastTail is the memory that a body begins with if more of it is to come.
const leastTail = 4 << 10

// hold returns a body that nothing has come of. length is what it will be; negative: that is
// not known.
func (s *bodyStore) hold(length int64) *heldBody { return &heldBody{store: s, last: length} }

// size returns how much has come.
func (h *heldBody) size() int64 { return h.filed + int64(len(h.tail)) }

// add appends p, which belongs to the caller. After an error, too, all of it is held: in
// memory, beyond the bound of that. Nothing may be added any more.
func (h *heldBody) add(p []byte) error {
	if int64(len(h.tail)+len(p)) <= h.store.memory {
		h.keep(p)
		return nil
	}
	if err := h.spill(); err != nil {
		h.keep(p)
		return err
	}
	if int64(len(p)) <= h.store.memory {
		h.keep(p)
		return nil
	}
	n, err := h.write(p)
	h.keep(p[n:])
	return err
}

// keep appends p to the memory. That grows with what has come, and not with what a client
// announces.
func (h *heldBody) keep(p []byte) {
	if need := len(h.tail) + len(p); need > cap(h.tail) {
		most := h.store.memory
		if h.last >= 0 {
			most = min(most, h.last-h.filed)
		}
		room := min(max(leastTail, 4*cap(h.tail)), int(most))
		h.tail = slices.Grow(h.tail, max(room, need)-len(h.tail))
	}
	h.tail = append(h.tail, p...)
}

// spill moves what is in memory into the file.
func (h *heldBody) spill() error {
	if h.file == nil {
		file, err := openNameless(h.store.folder)
		if err != nil {
			return err
		}
		h.file = file
	}
	n, err := h.write(h.tail)
	h.tail = h.tail[:copy(h.tail, h.tail[n:])]
	return err
}

// write appends p to the file, and returns how much of it is there. A file may have half of what
// is left beside it: a third of the total if there is no other. So there is always some left.
func (h *heldBody) write(p []byte) (int, error) {
	s, more := h.store, int64(len(p))
	var err error
	switch left := s.total - s.used.Add(more); {
	case left < 0:
		err = errStoreFull
	case h.filed+more > left/2:
		err = errStoreShare
	}
	if err != nil {
		s.used.Add(-more)
		return 0, err
	}
	n, err := h.file.WriteAt(p, h.filed)
	h.filed += int64(n)
	s.used.Add(int64(n - len(p)))
	return n, err
}

// errHeldLost: a body that was held cannot be read any more. No backend is to blame.
var errHeldLost = fmt.Errorf("held part: %w", errBodyOver)

// read fills p with what is held from at on, as far as it goes. At least a byte is there.
func (h *heldBody) read(p []byte, at int64) (n int, err error) {
	if at < h.filed {
		n = int(min(h.filed-at, int64(len(p))))
		if n, err = h.file.ReadAt(p[:n], at); err != nil {
			return n, fmt.Errorf("%w: %w", errHeldLost, err)
		}
		at += int64(n)
	}
	if n < len(p) {
		n += copy(p[n:], h.tail[at-h.filed:])
	}
	return n, nil
}

// close gives up what is held. A second call does nothing; h may be nil.
func (h *heldBody) close() {
	if h == nil {
		return
	}
	if h.file != nil {
		h.file.Close()
		h.store.used.Add(-h.filed)
	}
	h.file, h.filed, h.tail = nil, 0, nil
}

// openTemporary opens a file whose name is gone already. Nobody else may read it.
func openTemporary(folder string) (*os.File, error) {
	f, err := os.CreateTemp(folder, "havip-body-") // by mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
