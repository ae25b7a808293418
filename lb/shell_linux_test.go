package lb

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func init() {
	ageInLoops = func(h *Handler, d time.Duration) {
		for _, c := range h.sessions.list() {
			e, ok := c.(*httpEngine)
			if !ok {
				continue
			}
			for _, l := range e.loops {
				done := make(chan bool)
				l.Post(func() {
					for _, kept := range l.idle {
						for _, b := range kept.conns {
							b.since = l.Now() - int64(d)
						}
					}
					close(done)
				})
				<-done
			}
		}
	}
}

// TestOnEngine runs the tests that serve a shell once more, in a process where the event loops
// serve it.
func TestOnEngine(t *testing.T) {
	if *onEngine {
		t.Skip("this is the process")
	}
	t.Parallel() // these tests wait more than they work
	args := []string{"-test.run=^(" + strings.Join(testsOfShells(t), "|") + ")$", "-lb.engine", "-test.timeout=20m", "-test.failfast=false"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	flag.Visit(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "lb.") || f.Name == "test.v" {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	for name, more := range map[string]string{"as usual": "", "each write waits for the end of its turn": "-lb.due=1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := args
			if more != "" {
				args = append(slices.Clip(args), more)
			}
			out, err := exec.CommandContext(t.Context(), os.Args[0], args...).CombinedOutput()
			if err != nil {
				t.Errorf("on the event loops: %v\n%s", err, out)
			} else if testing.Verbose() {
				t.Logf("on the event loops:\n%s", out)
			}
			if !bytes.Contains(out, []byte("PASS")) {
				t.Errorf("no test has passed:\n%s", out)
			}
		})
	}
}

// testsOfShells returns the names of the tests in this folder that get to shell.serve, by
// whatever functions. So none is forgotten.
func testsOfShells(t *testing.T) (names []string) {
	t.Helper()
	calls := make(map[string]map[string]bool) // of functions of the tests: what they name
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && fn.Recv == nil {
				calls[fn.Name.Name] = identifiers(fn.Body)
			}
		}
	}
	serves := map[string]bool{"shell": true}
	for grown := true; grown; {
		grown = false
		for name, called := range calls {
			for other := range called {
				if serves[other] && !serves[name] {
					serves[name], grown = true, true
				}
			}
		}
	}
	for name := range serves {
		if strings.HasPrefix(name, "Test") && name != "TestOnEngine" {
			names = append(names, name)
		}
	}
	if len(names) < 50 {
		t.Fatalf("%d tests, want those of HTTP: %v", len(names), names)
	}
	return names
}

// identifiers returns the names in a piece of code.
func identifiers(n ast.Node) map[string]bool {
	names := make(map[string]bool)
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			names[id.Name] = true
		}
		return true
	})
	return names
}
