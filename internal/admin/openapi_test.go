package admin

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

var update = flag.Bool("update", false, "write comments.json anew")

// TestComments: the descriptions of the server's own types are what their comments say.
// Those of report's types may be a little behind.
func TestComments(t *testing.T) {
	made := map[string]string{}
	readComments(t, made, ".")
	own := maps.Clone(made)
	readComments(t, made, "../report")
	d := &describer{schemas: object{}, comments: made, used: map[string]bool{}}
	for _, rt := range New(Config{}, newFakeNode()).routes {
		d.operation(rt)
	}
	maps.DeleteFunc(made, func(name, text string) bool { return text == "" || !d.used[name] })
	if *update {
		text, err := json.MarshalIndent(made, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		comments = append(text, '\n')
		if err := os.WriteFile("comments.json", comments, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var kept map[string]string
	if err := json.Unmarshal(comments, &kept); err != nil {
		t.Fatal(err)
	}
	for name, text := range made {
		if own[name] == text && kept[name] != text {
			t.Errorf("%s: comments.json has %q, and the source %q: go test ./internal/admin -run TestComments -update", name, kept[name], text)
		}
	}
	if len(kept) < 50 {
		t.Errorf("%d comments", len(kept))
	}
}

// served is the description as a client gets it.
func served(t *testing.T) []byte {
	t.Helper()
	text, err := marshal(describeRoutes(New(Config{}, newFakeNode()).routes))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestOpenAPIHasTheRoutes, and the routes have what it describes: this reads the text as
// any client does.
func TestOpenAPIHasTheRoutes(t *testing.T) {
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Parameters []struct {
				Name, In string
			}
		}
	}
	if err := json.Unmarshal(served(t), &doc); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, operation := range methods {
			described[strings.ToUpper(method)+" "+path] = true
			var inPath []string
			for _, p := range operation.Parameters {
				if p.In == "path" {
					inPath = append(inPath, p.Name)
				}
			}
			if want := variables(path); !slices.Equal(inPath, want) {
				t.Errorf("%s %s: parameters %v, want %v", method, path, inPath, want)
			}
		}
	}
	s := New(Config{}, newFakeNode())
	table := map[string]bool{}
	for _, rt := range s.routes {
		table[rt.method+" "+strings.ReplaceAll(rt.pattern, "...", "")] = true
	}
	for key := range table {
		if !described[key] {
			t.Errorf("%s is served, and not described", key)
		}
	}
	for key := range described {
		if !table[key] {
			t.Errorf("%s is described, and not served", key)
		}
	}
	if len(table) < 25 || doc.OpenAPI != "3.1.0" {
		t.Errorf("%d routes, version %s", len(table), doc.OpenAPI)
	}
}

// TestOpenAPIFitsWhatIsSent: each field of a real status and a real event is in its schema,
// with its type, and whatever a schema requires is sent.
func TestOpenAPIFitsWhatIsSent(t *testing.T) {
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(served(t), &doc); err != nil {
		t.Fatal(err)
	}
	for name, sample := range map[string]any{
		"Status": filledValue(reflect.TypeFor[report.Status]()), "Event": filledValue(reflect.TypeFor[report.Event]()),
		"Explanation": filledValue(reflect.TypeFor[report.Explanation]()), "Change": filledValue(reflect.TypeFor[report.Change]()),
	} {
		for kind, v := range map[string]any{"full": sample, "empty": reflect.Zero(reflect.TypeOf(sample)).Interface()} {
			text, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(text, &value); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range misfits(name, value, doc.Components.Schemas[name], doc.Components.Schemas) {
				t.Errorf("%s %s: %s", kind, name, wrong)
			}
		}
	}
}

// misfits are where a value is not of a schema.
func misfits(at string, value, schema any, all map[string]any) (wrong []string) {
	s, ok := schema.(object)
	if !ok {
		return []string{at + ": no schema"}
	}
	if ref, ok := s["$ref"].(string); ok {
		return misfits(at, value, all[strings.TrimPrefix(ref, "#/components/schemas/")], all)
	}
	kinds := map[string]bool{}
	switch v := value.(type) {
	case object:
		kinds["object"] = true
		properties, _ := s["properties"].(object)
		for name, sub := range v {
			if properties == nil {
				wrong = append(wrong, misfits(at+"."+name, sub, s["additionalProperties"], all)...)
			} else if properties[name] == nil {
				wrong = append(wrong, at+"."+name+": is not in the schema")
			} else {
				wrong = append(wrong, misfits(at+"."+name, sub, properties[name], all)...)
			}
		}
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				wrong = append(wrong, at+"."+name.(string)+": is required, and not sent")
			}
		}
	case []any:
		kinds["array"] = true
		for _, item := range v {
			wrong = append(wrong, misfits(at+"[]", item, s["items"], all)...)
		}
	case string:
		kinds["string"] = true
	case bool:
		kinds["boolean"] = true
	case float64:
		kinds["number"], kinds["integer"] = true, v == float64(int64(v))
	case nil:
		kinds["null"] = true
	}
	if kind, _ := s["type"].(string); !kinds[kind] {
		wrong = append(wrong, at+": is no "+kind)
	}
	return wrong
}

// filledValue has something in each field, and one item in each list.
func filledValue(t reflect.Type) any {
	v := reflect.New(t).Elem()
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				v.Set(reflect.ValueOf(time.Unix(1e9, 5)))
				return
			}
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					fill(v.Field(i))
				}
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			item := reflect.New(v.Type().Elem()).Elem()
			fill(item)
			key := reflect.New(v.Type().Key()).Elem()
			fill(key)
			v.SetMapIndex(key, item)
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Float32, reflect.Float64:
			v.SetFloat(1.5)
		default:
			if v.CanInt() {
				v.SetInt(7)
			} else if v.CanUint() {
				v.SetUint(7)
			}
		}
	}
	fill(v)
	return v.Interface()
}

// readComments reads what the types of a folder, and their fields, are said to be.
func readComments(t *testing.T, into map[string]string, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), folder+"/"+e.Name(), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			g, ok := n.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				return true
			}
			for _, spec := range g.Specs {
				noteType(into, g, spec.(*ast.TypeSpec))
			}
			return false
		})
	}
}

func noteType(into map[string]string, g *ast.GenDecl, spec *ast.TypeSpec) {
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	into[spec.Name.Name] = oneLine(g.Doc)
	for _, f := range fields.Fields.List {
		text := oneLine(f.Doc)
		if text == "" {
			text = oneLine(f.Comment)
		}
		for _, name := range f.Names {
			into[spec.Name.Name+"."+name.Name] = text
		}
	}
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
