package healthcheck

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, age time.Duration) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fresh := write("fresh", "state=active\n", 0)
	old := write("old", "state=standby\n", time.Hour)
	big := write("big", strings.Repeat("x", 200<<10)+"state=active", 0)
	missing := filepath.Join(dir, "missing")
	active := regexp.MustCompile(`(?m)^state=active$`)
	runCheckCases(t, []checkCase{
		{name: "exists", checker: File{Path: fresh}},
		{name: "does not exist", checker: File{Path: missing}, want: "does not exist"},
		{name: "directory does not exist", checker: File{Path: missing + "/file"}, want: "does not exist"},
		{name: "absent, as wanted", checker: File{Path: missing, Absent: true}},
		{name: "not absent", checker: File{Path: fresh, Absent: true}, want: "exists"},
		{name: "fresh", checker: File{Path: fresh, MaxAge: time.Minute}},
		{name: "old", checker: File{Path: old, MaxAge: time.Minute}, want: "want at most 1m0s"},
		{name: "content", checker: File{Path: fresh, Content: active}},
		{name: "wrong content", checker: File{Path: old, Content: active}, want: `content "state=standby\n" does not match`},
		{name: "oversized: the end is not seen", checker: File{Path: big, Content: active}, want: "does not match"},
		{name: "a directory has no content", checker: File{Path: dir, Content: active}, want: "not a regular file"},
		{name: "a directory exists", checker: File{Path: dir}},
	})
	for _, c := range []File{{}, {Path: fresh, MaxAge: -1}, {Path: fresh, Absent: true, MaxAge: 1}, {Path: fresh, Absent: true, Content: active}} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
