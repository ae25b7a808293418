package guard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// mortal is a file in memory whose writer dies after so many bytes.
type mortal struct {
	b    []byte
	life int
}

var errDead = errors.New("dead")

func (f *mortal) WriteAt(p []byte, off int64) (int, error) {
	n := min(len(p), f.life)
	f.life -= n
	if end := int(off) + n; end > len(f.b) && n > 0 {
		f.b = append(f.b, make([]byte, end-len(f.b))...)
	}
	if n > 0 {
		copy(f.b[off:], p[:n])
	}
	if n < len(p) {
		return n, errDead
	}
	return n, nil
}

// read returns what a reader finds, in order of content.
func (f *mortal) read() []string {
	var out []string
	for _, c := range contents(f.b) {
		out = append(out, string(c))
	}
	slices.Sort(out)
	return out
}

func TestStore(t *testing.T) {
	f := &mortal{life: 1 << 30}
	s := newStore(f)
	set := func(name, content string) {
		t.Helper()
		if err := s.set(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want ...string) {
		t.Helper()
		if got := f.read(); !slices.Equal(got, want) {
			t.Errorf("contents %q, want %q", got, want)
		}
	}
	want()
	set("a", "")
	want()
	set("a", "one")
	set("b", "two")
	want("one", "two")
	for i := range 100 {
		set("a", fmt.Sprint("version ", i))
	}
	want("two", "version 99")
	size := len(f.b)
	set("a", "")
	want("two")
	set("a", "back")
	want("back", "two")
	if len(f.b) != size {
		t.Errorf("the file grew from %d to %d bytes although everything had room", size, len(f.b))
	}
	long := strings.Repeat("x", 3000)
	set("a", long)
	want("two", long)
	set("a", "short")
	want("short", "two")
}

// Wherever death hits the writer, the reader finds each will as it was before
// the last change or after it. In the moment when a will moves to a larger
// region it may find both.
func TestStoreSurvivesItsWriter(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		f := &mortal{life: 50 + rnd.IntN(20_000)}
		s := newStore(f)
		now := map[string]string{}
		for i := 0; ; i++ {
			name := fmt.Sprint(rnd.IntN(3))
			next := fmt.Sprintf("%s:%d:%s", name, i, strings.Repeat("y", rnd.IntN(900)))
			err := s.set(name, []byte(next))
			if err == nil {
				now[name] = next
				continue
			}
			for _, got := range f.read() {
				if owner, _, _ := strings.Cut(got, ":"); got != now[owner] && got != next {
					t.Fatalf("seed %d: found %.20q, want %.20q or %.20q", seed, got, now[owner], next)
				}
			}
			for owner, want := range now {
				if found := f.read(); owner != name && !slices.Contains(found, want) || owner == name && !slices.Contains(found, want) && !slices.Contains(found, next) {
					t.Fatalf("seed %d: will of %s is missing", seed, owner)
				}
			}
			break
		}
	}
}

func FuzzContents(f *testing.F) {
	m := &mortal{life: 1 << 20}
	s := newStore(m)
	s.set("a", []byte("one"))
	s.set("b", []byte("two"))
	f.Add(m.b)
	f.Add(m.b[:100])
	f.Fuzz(func(_ *testing.T, b []byte) { contents(b) })
}

func BenchmarkSet(b *testing.B) {
	s := newStore(&mortal{life: 1 << 62, b: make([]byte, 1<<16)})
	content := make([]byte, 200)
	for b.Loop() {
		s.set("router", content)
	}
}
