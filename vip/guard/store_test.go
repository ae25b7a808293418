package guard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mortal is a file in memory whose writer dies. It may live on after the write that
// fails.
type mortal struct {
	b    []byte
	life int  // how many writes succeed
	part int  // how many bytes of the next one arrive: perhaps all, and it fails still
	once bool // those after that succeed
}

// immortal is enough life for any test.
const immortal = 1 << 30

var errDead = errors.New("dead")

func (f *mortal) WriteAt(p []byte, off int64) (n int, err error) {
	n = len(p)
	if f.life > 0 {
		f.life--
	} else {
		n, err = min(n, f.part), errDead
		f.part = 0
		if f.once {
			f.life = immortal
		}
	}
	if end := int(off) + n; end > len(f.b) && n > 0 {
		f.b = append(f.b, make([]byte, end-len(f.b))...)
	}
	if n > 0 {
		copy(f.b[off:], p[:n])
	}
	return n, err
}

// read returns what a reader finds.
func (f *mortal) read() []string {
	var out []string
	for _, c := range contents(f.b) {
		out = append(out, string(c))
	}
	return out
}

func TestStore(t *testing.T) {
	f := &mortal{life: immortal}
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
	want("two", "back")
	if len(f.b) != size {
		t.Errorf("the file grew from %d to %d bytes although everything had room", size, len(f.b))
	}
	long := strings.Repeat("x", 3000)
	set("a", long)
	want("two", long)
	set("a", "short")
	want("two", "short")

	// The smallest region that is large enough is the one to be reused.
	set("c", "in what a had first")
	set("a", "")
	set("b", "")
	size = len(f.b)
	set("d", "in what b had")
	set("e", long)
	want("in what a had first", "in what b had", long)
	if len(f.b) != size {
		t.Errorf("the file grew from %d to %d bytes although everything had room", size, len(f.b))
	}
}

// However many names there were, the file is no larger than those take that were
// there at once.
func TestStoreReusesWhatIsWithdrawn(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := &mortal{life: immortal}
	s := newStore(f)
	const live, names = 3, 5000
	for i := range names {
		// Of two sizes, so that many outgrow what they had.
		for range 2 {
			if err := s.set(fmt.Sprint(i), make([]byte, 1+rnd.IntN(2000))); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.set(fmt.Sprint(i-live), nil); err != nil {
			t.Fatal(err)
		}
	}
	// Capacities are from 512 to 4000 bytes, and a region has two slots. Of each
	// doubling there is at most one region for each name that lives, for one that
	// comes before another goes, and for one that is growing.
	if limit := (live + 2) * 2 * (512 + 1024 + 2048 + 4000 + 4*(regionHeader+slotHeader)); len(f.b) > limit {
		t.Errorf("seed %d: %d names take %d bytes, want at most %d for %d at a time", seed, names, len(f.b), limit, live)
	}
	if len(s.regions) != live {
		t.Errorf("seed %d: %d names are remembered, want %d", seed, len(s.regions), live)
	}
}

// Wherever death or an error hits the writer, the reader finds each will as it was
// before the last change or after it, and none of those that had its region before.
// In the moment when a will moves to another region it may find both, the newer
// one last.
func TestStoreSurvivesItsWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &mortal{}
		s := newStore(f)
		m := model{}
		names := []string{"a", "b", "c", "d", "e"}
		for i := range rapid.IntRange(1, 40).Draw(t, "changes") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			var next string
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0: // withdrawn
			case 1: // what there was at some time, perhaps withdrawn since
				next = m.said(name)
			default:
				size := rapid.SampledFrom([]int{0, 400, 600, 1000, 1500, 3000}).Draw(t, "size")
				next = fmt.Sprintf("%s:%d:%s", name, i, strings.Repeat("y", size))
			}
			*f = mortal{b: f.b, life: immortal}
			if rapid.Bool().Draw(t, "trouble") {
				f.life = rapid.IntRange(0, 4).Draw(t, "life")
				f.part = rapid.IntRange(0, 4000).Draw(t, "part")
				f.once = rapid.Bool().Draw(t, "once")
			}
			err := s.set(name, []byte(next))
			m.change(name, next, err)
			m.check(t, f)
		}
	})
}

// model is what a store may hold: for each name the contents in the order in which
// they came.
type model map[string][]version

// version is a content; "" is none.
type version struct {
	content string
	// gone: it must not be found any more.
	gone bool
}

// said returns what was last set under a name.
func (m model) said(name string) string {
	for _, v := range slices.Backward(m[name]) {
		if v.content != "" {
			return v.content
		}
	}
	return ""
}

// change notes down a call of set. After an error what was before may be in force,
// or next, or both.
func (m model) change(name, next string, err error) {
	if len(m[name]) == 0 {
		m[name] = []version{{}}
	}
	if err == nil {
		for i := range m[name] {
			m[name][i].gone = true
		}
	}
	m[name] = append(m[name], version{content: next})
}

// check compares what a reader finds.
func (m model) check(t *rapid.T, f *mortal) {
	found := map[string][]string{}
	for _, c := range contents(f.b) {
		owner, _, _ := strings.Cut(string(c), ":")
		found[owner] = append(found[owner], string(c))
	}
	for name, got := range found {
		if m[name] == nil {
			t.Fatalf("found %.20q, which nobody has set", got)
		}
	}
	for name, versions := range m {
		var may []string
		for _, v := range versions {
			if !v.gone {
				may = append(may, v.content)
			}
		}
		got := found[name]
		if len(got) == 0 && !slices.Contains(may, "") {
			t.Fatalf("the will of %s is missing, want one of %.20q", name, may)
		}
		if len(may) == 1 && len(got) > 1 {
			t.Fatalf("found %.20q, want only one", got)
		}
		// In the order in which they were set.
		rest := may
		for _, c := range got {
			i := slices.Index(rest, c)
			if i < 0 {
				t.Fatalf("found %.20q, want from %.20q, in this order", got, may)
			}
			rest = rest[i:]
		}
	}
}

func FuzzContents(f *testing.F) {
	m := &mortal{life: immortal}
	s := newStore(m)
	s.set("a", []byte("one"))
	s.set("b", []byte("two"))
	f.Add(m.b)
	f.Add(m.b[:100])
	f.Fuzz(func(_ *testing.T, b []byte) { contents(b) })
}

func BenchmarkSet(b *testing.B) {
	s := newStore(&mortal{life: immortal, b: make([]byte, 1<<16)})
	content := make([]byte, 200)
	for b.Loop() {
		s.set("router", content)
	}
}
