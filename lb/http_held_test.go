package lb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// testStore is a store of a folder that lasts as long as the test.
func testStore(t testing.TB, memory, total int64) *bodyStore {
	t.Helper()
	return &bodyStore{memory: memory, folder: t.TempDir(), total: total, used: new(atomic.Int64)}
}

// heldBytes returns what h holds, read in pieces of a size.
func heldBytes(t *testing.T, h *heldBody, piece int) []byte {
	t.Helper()
	var all []byte
	p := make([]byte, piece)
	for int64(len(all)) < h.size() {
		n, err := h.read(p, int64(len(all)))
		if err != nil || n == 0 {
			t.Fatalf("%d bytes at %d of %d: %v", n, len(all), h.size(), err)
		}
		all = append(all, p[:n]...)
	}
	return all
}

// numbered is n bytes that tell where they belong.
func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// What is held is what has come, whatever pieces it has come in, and memory has no more of it
// than it may.
func TestHeldBodyIsWhatHasCome(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		s := testStore(t, 1+random.Int64N(3000), 1<<20)
		want := numbered(random.IntN(20000))
		length := int64(-1)
		if random.IntN(2) == 0 {
			length = int64(len(want))
		}
		h := s.hold(length)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(5000))
			if err := h.add(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if int64(cap(h.tail)) > s.memory+s.memory/2+1024 || int64(len(h.tail)) > s.memory {
				t.Fatalf("seed %d: %d bytes in memory for %d, want %d", seed, cap(h.tail), len(h.tail), s.memory)
			}
		}
		if got := heldBytes(t, h, 1+random.IntN(3000)); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes are not those that came, %d", seed, len(got), len(want))
		}
		if (h.file != nil) != (int64(len(want)) > s.memory) || s.used.Load() != h.filed {
			t.Fatalf("seed %d: %d bytes, of which %d may be in memory: a file: %v, with %d bytes, counted %d",
				seed, len(want), s.memory, h.file != nil, h.filed, s.used.Load())
		}
		h.close()
		h.close()
		if s.used.Load() != 0 {
			t.Fatalf("seed %d: %d bytes are counted after the end", seed, s.used.Load())
		}
	}
}

// Where a file may not grow, nothing is lost that has come.
func TestHeldBodyBeyondItsBounds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store func(t *testing.T) *bodyStore
		want  error
	}{
		{"all files are full", func(t *testing.T) *bodyStore {
			s := testStore(t, 1000, 2500)
			s.used.Store(2000)
			return s
		}, errStoreFull},
		{"half of what is left for others", func(t *testing.T) *bodyStore { return testStore(t, 1000, 4500) }, errStoreShare},
		{"there is no folder", func(t *testing.T) *bodyStore {
			s := testStore(t, 1000, 1<<20)
			s.folder = filepath.Join(s.folder, "none")
			return s
		}, fs.ErrNotExist},
	} {
		s, want := tt.store(t), numbered(5000)
		before, h := s.used.Load(), s.hold(-1)
		var err error
		at := 0
		for ; err == nil && at < len(want); at += 500 {
			err = h.add(want[at : at+500])
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if got := heldBytes(t, h, 300); !bytes.Equal(got, want[:at]) {
			t.Errorf("%s: %d bytes are held, want the %d that came", tt.name, len(got), at)
		}
		h.close()
		if n := s.used.Load(); n != before {
			t.Errorf("%s: %d bytes are counted after the end", tt.name, n)
		}
	}
}

// However many bodies have all the room they can get, there is some for another one.
func TestBodiesShareTheRoomForThem(t *testing.T) {
	const total, piece = 1 << 20, 1 << 10
	s := testStore(t, piece, total)
	fill := func() *heldBody {
		h := s.hold(-1)
		for h.add(numbered(piece)) == nil {
		}
		return h
	}
	for n := range 10 {
		h := fill()
		defer h.close()
		left := total - s.used.Load()
		if h.filed > left/2 || h.filed+2*piece < left/2 {
			t.Errorf("body %d has a file of %d bytes, and %d are left", n, h.filed, left)
		}
	}
}

// A file is nobody else's: it has no name, and a mode that is for its owner.
func TestHeldFileHasNoName(t *testing.T) {
	for name, open := range map[string]func(string) (*os.File, error){"as it comes": openNameless, "with a name at first": openTemporary} {
		folder := t.TempDir()
		f, err := open(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(folder)
		if len(names) != 0 || err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, names %v, %v", name, info.Mode(), names, err)
		}
		if _, err := open(filepath.Join(folder, "none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that has lost what was in it is no backend's failure.
func TestHeldBodyThatIsLost(t *testing.T) {
	h := testStore(t, 10, 1<<20).hold(-1)
	if err := h.add(numbered(100)); err != nil {
		t.Fatal(err)
	}
	if err := h.file.Truncate(50); err != nil {
		t.Fatal(err)
	}
	_, err := h.read(make([]byte, 100), 0)
	if !errors.Is(err, errBodyOver) || (attempt{}).blame(fmt.Errorf("attempt: %w", err)) != Neutral {
		t.Errorf("%v", err)
	}
}
