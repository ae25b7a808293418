package admin

import (
	_ "embed"
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/internal/report"
)

// comments are those of the types in the table of routes, and of their fields, as the
// source has them: go test ./internal/admin -run TestComments -update writes them anew.
//
//go:embed comments.json
var comments []byte

type object = map[string]any

// describe answers with the description of the API, as OpenAPI 3.1 has it. It is made of
// the table of routes and the types in it, so that it is never behind these.
func (s *Server) describe(c *call) error {
	text, err := s.openAPI()
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, "application/json", text)
}

// describeRoutes makes the description of a table of routes.
func describeRoutes(routes []route) object {
	d := &describer{schemas: object{}, comments: map[string]string{}}
	_ = json.Unmarshal(comments, &d.comments) // a test has looked at it
	paths := object{}
	for _, rt := range routes {
		path := strings.ReplaceAll(rt.pattern, "...", "")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(rt.method)] = d.operation(rt)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "havip", "version": "1", "description": "What a running havip can be asked, and told. " +
			"On the Unix socket root and the user of havip may steer, others read. On TCP everybody reads; who has the token or a client certificate steers. " +
			"Times are RFC 3339, durations seconds. New fields, events and routes may come; nothing here goes or changes its meaning within version 1."},
		"servers": []any{object{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}, "certificate": object{"type": "mutualTLS"}},
		},
	}
}

// describer collects schemas.
type describer struct {
	schemas  object
	comments map[string]string // of types, and of fields as Type.Field
	used     map[string]bool   // of the comments, those that were looked for; nil: nobody asks
}

// comment is what the source says of a type or a field.
func (d *describer) comment(name string) string {
	if d.used != nil {
		d.used[name] = true
	}
	return d.comments[name]
}

func (d *describer) operation(rt route) object {
	o := object{"summary": rt.summary}
	var parameters []any
	for _, name := range variables(rt.pattern) {
		parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range rt.query {
		parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.text, "schema": object{"type": "string"}})
	}
	if parameters != nil {
		o["parameters"] = parameters
	}
	if rt.body != nil {
		o["requestBody"] = object{"content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(rt.body))}}}
	}
	good := object{"description": "done"}
	status := "204"
	switch {
	case rt.result != nil:
		status, good["content"] = "200", object{"application/json": object{"schema": d.schema(reflect.TypeOf(rt.result))}}
	case rt.kind != "":
		status, good["content"] = "200", object{rt.kind: object{}}
	}
	wrong := object{"description": "what is wrong, and what to do", "content": object{"application/json": object{"schema": d.schema(reflect.TypeFor[errorBody]())}}}
	o["responses"] = object{status: good, "default": wrong}
	if rt.steers {
		o["security"] = []any{object{"token": []any{}}, object{"certificate": []any{}}}
	}
	return o
}

// schema is that of a type; those of structs are named and kept.
func (d *describer) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[report.Seconds]():
		return object{"type": "number", "description": "seconds"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Struct:
		return d.structure(t)
	}
	return object{"type": "integer"}
}

func (d *describer) structure(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if d.schemas[name] != nil {
		return ref
	}
	properties, required := object{}, []string{}
	s := object{"type": "object"}
	d.schemas[name] = s
	if c := d.comment(t.Name()); c != "" {
		s["description"] = c
	}
	for f := range fieldsOf(t) {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := maps.Clone(d.schema(f.Type))
		if c := d.comment(t.Name() + "." + f.Name); c != "" {
			p["description"] = c
		}
		properties[key] = p
		if !strings.Contains(options, "omit") {
			required = append(required, key)
		}
	}
	slices.Sort(required)
	s["properties"], s["required"] = properties, required
	return ref
}

// variables are the names in the braces of a path.
func variables(path string) (names []string) {
	for _, m := range braces.FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return names
}

var braces = regexp.MustCompile(`\{(\w+)`)

// fieldsOf are the fields of a struct that JSON has, those of embedded ones in their place.
func fieldsOf(t reflect.Type) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous && f.Tag.Get("json") != "-" && !yield(f) {
				return
			}
		}
	}
}
