package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// errorName is how errors are called here.
var errorName = regexp.MustCompile(`^(err|failed|why|broken|wrong)$|Err$`)

// TestErrorsHaveOneKey: whoever looks for errors in a log looks for the key err.
func TestErrorsHaveOneKey(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for key, value := range logged(n) {
				if key == "err" {
					found++
				}
				if key != "err" && errorName.MatchString(value) {
					t.Errorf("%v: key %q for %s, want err", files.Position(n.Pos()), key, value)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d errors are logged: this test has lost sight of them", found)
	}
}

// logged returns the keys of a line, or of a part of one, with the names of what has
// them; empty: it has none.
func logged(n ast.Node) map[string]string {
	var args []ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		methods := []string{"Debug", "Info", "Warn", "Error", "Log", "With", "note", "remark", "complain"}
		if f, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(methods, f.Sel.Name) {
			args = n.Args
		}
	case *ast.CompositeLit: // []any{"key", value}
		args = n.Elts
	}
	pairs := map[string]string{}
	for i := 1; i < len(args); i++ {
		key, ok := args[i-1].(*ast.BasicLit)
		if !ok || key.Kind != token.STRING {
			continue
		}
		text, _ := strconv.Unquote(key.Value)
		switch value := args[i].(type) {
		case *ast.Ident:
			pairs[text] = value.Name
		case *ast.SelectorExpr:
			pairs[text] = value.Sel.Name
		default:
			pairs[text] = ""
		}
	}
	return pairs
}
