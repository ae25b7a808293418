package process

import (
	"strings"
	"testing"
)

func FuzzStat(f *testing.F) {
	f.Add([]byte("7 (nginx) S 1 7 7 0 -1"))
	f.Add([]byte("7 (a) Z (b) R 1 7"))
	f.Add([]byte("7 (cut"))
	f.Add([]byte("7 (cut)"))
	f.Add([]byte(") ("))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if st, ok := ParseStat(stat); ok && !strings.Contains(string(stat), "("+st.Name+")") {
			t.Errorf("%q gives %+v", stat, st)
		}
	})
}
