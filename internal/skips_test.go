package internal_test

import (
	"go/ast"
	"path/filepath"
	"slices"
	"testing"
)

// maySkip are the functions that skip in another way than by package lab, of which
// HAVIP_REQUIRE turns each skip into a failure; and why a skip is right there whatever is
// installed.
var maySkip = map[string]string{
	"vip/guard TestValidateMessages":  "bytes are written down for one order of bytes",
	"lb TestOnEngine":                 "a process does not start itself again",
	"lb onlyNetHTTP":                  "TestOnEngine runs all tests again, and the event loops do not have all",
	"lb BenchmarkHTTPVersions":        "compares the binaries that somebody names",
	"lb openDrawn":                    "not the test ends, but a drawn case that says nothing",
	"internal/daemon TestLedger":      "not the test ends, but a drawn step that says nothing",
	"lb/internal/reactor newTestRing": "kernels and containers may forbid io_uring, and the loops do without",
	"internal/lab NeedRoot":           "an ordinary user's lab has one user only, and no package changes that",
	"internal/lab Lacking":            "this is the way",
}

// TestSkips: a test that is skipped for lack of something says so by lab.Need or
// lab.Lacking, so that no skip hides where all is required.
func TestSkips(t *testing.T) {
	found := map[string]bool{}
	for _, s := range sources(t) {
		folder, err := filepath.Rel("..", s.folder())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range s.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method.Sel.Name) {
					return true
				}
				name := "a variable"
				if f, ok := d.(*ast.FuncDecl); ok {
					name = f.Name.Name
				}
				where := filepath.ToSlash(folder) + " " + name
				found[where] = true
				if maySkip[where] == "" {
					t.Errorf("%v: %s skips by itself: want lab.Need or lab.Lacking, or an entry in maySkip", s.files.Position(call.Pos()), name)
				}
				return true
			})
		}
	}
	for where, why := range maySkip {
		if !found[where] {
			t.Errorf("%s skips nothing: want no entry in maySkip (%s)", where, why)
		}
	}
}
