package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// source is a parsed file.
type source struct {
	*ast.File
	files *token.FileSet
	lines []string
}

func (s source) folder() string { return filepath.Dir(s.files.Position(s.Pos()).Filename) }

// sources parses all files of the repository, but for the test's own data.
func sources(t *testing.T) (list []source) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "testdata") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, text, parser.ParseComments|parser.SkipObjectResolution)
		list = append(list, source{file, files, strings.Split(string(text), "\n")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 300 {
		t.Fatalf("%d files are found, want all", len(list))
	}
	return list
}

// otherwise is how a doc comment begins that should say "reports whether".
var otherwise = regexp.MustCompile(`^\w+ (tells|returns|says|checks|decides) (if|whether) `)

// TestReportsWhether: what a predicate does is said in one way.
func TestReportsWhether(t *testing.T) {
	isBool := func(f *ast.Field) bool {
		id, ok := f.Type.(*ast.Ident)
		return ok && id.Name == "bool"
	}
	for _, s := range sources(t) {
		for _, d := range s.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Type.Results != nil && slices.ContainsFunc(f.Type.Results.List, isBool) && otherwise.MatchString(f.Doc.Text()) {
				t.Errorf("%v: %.60q: want reports whether", s.files.Position(f.Pos()), f.Doc.Text())
			}
		}
	}
}

// names begin with a capital letter in the middle of a sentence, too.
var names = strings.Fields("Active Backup Chromium Debian Docker Ethernet Fault Go HAProxy Initialize January Keepalived Linux Maglev " +
	"Prometheus Robin Solicitation Stevens Ubuntu Unix Windows")

// TestTrailingComments are in lower case and have no full stop.
func TestTrailingComments(t *testing.T) {
	all := sources(t)
	known := map[[2]string]bool{} // by folder and identifier
	for _, s := range all {
		ast.Inspect(s.File, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				known[[2]string{s.folder(), id.Name}] = true
			}
			return true
		})
	}
	for _, s := range all {
		for _, group := range s.Comments {
			c := group.List[0]
			at := s.files.Position(c.Pos())
			text, ok := strings.CutPrefix(c.Text, "// ")
			if !ok || strings.TrimSpace(s.lines[at.Line-1][:at.Column-1]) == "" {
				continue
			}
			if strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "...") && len(group.List) == 1 {
				t.Errorf("%v: %s: want no full stop", at, text)
			}
			word := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' })
			if len(word) == 0 || known[[2]string{s.folder(), word[0]}] || slices.Contains(names, word[0]) || !strings.HasPrefix(text, word[0]) {
				continue
			}
			// Acronyms and identifiers have more than their first letter.
			if first, rest := rune(word[0][0]), word[0][1:]; unicode.IsUpper(first) && len(rest) > 0 && strings.ToLower(rest) == rest && !strings.ContainsAny(rest, "0123456789_") {
				t.Errorf("%v: %s: want lower case", at, text)
			}
		}
	}
}

var (
	errorFunction = regexp.MustCompile(`^(Errorf|New|fail|failAt|failFile|Fatalf)$`)
	notWant       = regexp.MustCompile(`\b(must be|must not be|expected|expecting)\b`)
)

// TestErrorsWant: an error says what was found and what is wanted, in this word.
func TestErrorsWant(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !errorFunction.MatchString(f.Sel.Name) {
				return true
			}
			for _, arg := range call.Args {
				lit, ok := arg.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				if text, _ := strconv.Unquote(lit.Value); notWant.MatchString(text) {
					t.Errorf("%v: %q: want the word want", s.files.Position(lit.Pos()), text)
				}
			}
			return true
		})
	}
}
