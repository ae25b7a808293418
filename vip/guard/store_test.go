package guard

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// mortal is two files in memory whose writer dies. It may live on after the write that
// fails.
type mortal struct {
	files [2][]byte
	life  int  // how many writes succeed
	part  int  // how many bytes of the next one arrive: perhaps all, and it fails still
	once  bool // those after that succeed
}

// newStore returns a store in the files.
func (m *mortal) newStore() *store { return newStore(mortalFile{m, 0}, mortalFile{m, 1}) }

// mortalFile is one of the files.
type mortalFile struct {
	*mortal
	i int
}

// immortal is enough life for any test.
const immortal = 1 << 30

var errDead = errors.New("dead")

func (f mortalFile) WriteAt(p []byte, off int64) (n int, err error) {
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
	b := &f.files[f.i]
	if end := int(off) + n; end > len(*b) && n > 0 {
		*b = append(*b, make([]byte, end-len(*b))...)
	}
	if n > 0 {
		copy((*b)[off:], p[:n])
	}
	return n, err
}

// read returns what a reader finds.
func (m *mortal) read() map[string]string {
	out := map[string]string{}
	for name, c := range contents(m.files[0], m.files[1]) {
		out[name] = string(c)
	}
	return out
}

func TestStore(t *testing.T) {
	m := &mortal{life: immortal}
	s := m.newStore()
	set := func(name, content string) {
		t.Helper()
		if err := s.set(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want map[string]string) {
		t.Helper()
		if got := m.read(); !maps.Equal(got, want) {
			t.Errorf("contents %q, want %q", got, want)
		}
	}
	want(nil)
	set("a", "")
	want(nil)
	set("a", "one")
	set("b", "two")
	want(map[string]string{"a": "one", "b": "two"})
	for i := range 1000 {
		set("a", fmt.Sprint("version ", i))
		want(map[string]string{"a": fmt.Sprint("version ", i), "b": "two"})
	}
	set("a", "")
	want(map[string]string{"b": "two"})
	set("a", "back")
	want(map[string]string{"a": "back", "b": "two"})
	long := strings.Repeat("x", 300_000)
	set("a", long)
	want(map[string]string{"a": long, "b": "two"})
	set("a", "short")
	want(map[string]string{"a": "short", "b": "two"})
	set("", "no name")
	want(map[string]string{"a": "short", "b": "two", "": "no name"})
}

// However many names there were, the file is no larger than those take that were
// there at once.
func TestStoreReusesWhatIsWithdrawn(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := &mortal{life: immortal}
	s := m.newStore()
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
	// A log begins with what is in force, and is followed by as much again at most, the
	// slack, and the entry that goes beyond that. Of the names in force one comes before
	// another goes.
	limit := (2*(live+1)+1)*(2000+100) + slack
	if size := max(len(m.files[0]), len(m.files[1])); size > limit {
		t.Errorf("seed %d: %d names take a file of %d bytes, want at most %d for %d at a time", seed, names, size, limit, live)
	}
	if len(s.live) != live {
		t.Errorf("seed %d: %d names are remembered, want %d", seed, len(s.live), live)
	}
}

// Wherever death or an error hits the writer, the reader finds each content as it was
// before the last change or after it. After a change that succeeds, of any name, it finds
// the last content of every name.
func TestStoreSurvivesItsWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &mortal{}
		s := f.newStore()
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
			*f = mortal{files: f.files, life: immortal}
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
// or next.
func (m model) change(name, next string, err error) {
	if len(m[name]) == 0 {
		m[name] = []version{{}}
	}
	m[name] = append(m[name], version{content: next})
	if err != nil {
		return
	}
	for _, versions := range m {
		for i := range versions[:len(versions)-1] {
			versions[i].gone = true
		}
	}
}

// check compares what a reader finds.
func (m model) check(t *rapid.T, f *mortal) {
	found := f.read()
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
		if got := found[name]; !slices.Contains(may, got) {
			t.Fatalf("found %.20q under %s, want one of %.20q", got, name, may)
		}
	}
}

func FuzzContents(f *testing.F) {
	m := &mortal{life: immortal}
	s := m.newStore()
	s.set("a", []byte("one"))
	s.set("b", []byte("two"))
	f.Add(m.files[0], m.files[0][:30])
	s.set("c", make([]byte, slack))
	f.Add(m.files[0], m.files[1])
	f.Fuzz(func(_ *testing.T, one, two []byte) { contents(one, two) })
}

func BenchmarkSet(b *testing.B) {
	s := (&mortal{life: immortal}).newStore()
	content := make([]byte, 200)
	for b.Loop() {
		s.set("router", content)
	}
}
