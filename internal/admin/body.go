package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// read decodes the body, a JSON object, into what to points at. Each key must be one of
// the fields, written exactly so, and at most once; the required ones must be there. An
// empty body counts as an empty object, and nil wants nothing else.
func (c *call) read(to any, required ...string) error {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return failf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return failf(http.StatusBadRequest, "the body: %v", err)
	}
	return decodeBody(text, to, required)
}

func decodeBody(text []byte, to any, required []string) error {
	var fields []bodyField
	if to != nil {
		fields = bodyFields(reflect.ValueOf(to).Elem())
	}
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return failf(http.StatusBadRequest, "the body: want a JSON object such as %s", sample(fields))
	}
	seen := map[string]bool{}
	for d.More() {
		name, value, err := entry(d)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(fields, func(f bodyField) bool { return f.name == name })
		switch {
		case i < 0:
			return failf(http.StatusBadRequest, "unknown key %.60q: %s", name, meant(name, namesOf(fields)))
		case seen[name]:
			return failf(http.StatusBadRequest, "key %s is given twice: want it once", name)
		}
		seen[name] = true
		if err := json.Unmarshal(value, fields[i].to); err != nil || string(value) == "null" {
			return failf(http.StatusBadRequest, "%s: %.60s: want %s", name, value, kindOf(fields[i].to))
		}
	}
	if _, err := d.Token(); err != nil {
		return failf(http.StatusBadRequest, "the body: not JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return failf(http.StatusBadRequest, "the body: want one JSON object, and nothing behind it")
	}
	for _, name := range required {
		if !seen[name] {
			return failf(http.StatusBadRequest, "key %s is missing: want a JSON object such as %s", name, sample(fields))
		}
	}
	return nil
}

// entry reads the next key of an object with its value.
func entry(d *json.Decoder) (name string, value json.RawMessage, err error) {
	t, err := d.Token()
	if err != nil {
		return "", nil, failf(http.StatusBadRequest, "the body: not JSON: %v", err)
	}
	name, _ = t.(string)
	if err := d.Decode(&value); err != nil {
		return "", nil, failf(http.StatusBadRequest, "the body: not JSON behind key %.60q: %v", name, err)
	}
	return name, value, nil
}

// bodyField is a key that a body may have, and where its value goes.
type bodyField struct {
	name string
	to   any
}

func bodyFields(v reflect.Value) (fields []bodyField) {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields = append(fields, bodyField{name, v.Field(i).Addr().Interface()})
	}
	return fields
}

func namesOf(fields []bodyField) (names []string) {
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}

// kindOf says what a field takes.
func kindOf(to any) string {
	t := reflect.TypeOf(to)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a text"
}

// sample is an object with all keys.
func sample(fields []bodyField) string {
	if len(fields) == 0 {
		return "{}"
	}
	var parts []string
	for _, f := range fields {
		value := map[string]string{"true or false": "true", "a whole number": "1", "a text": `"..."`}[kindOf(f.to)]
		parts = append(parts, fmt.Sprintf("%q: %s", f.name, value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// withLists is a copy of a value, as far as it differs, in which lists and maps without
// items are empty ones and not nil: null would be one case more for every reader. Fields
// that are left out when empty stay as they are.
func withLists(value any) any {
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return value
	}
	filled := reflect.New(v.Type()).Elem()
	filled.Set(v)
	fillLists(filled)
	return filled.Interface()
}

// fillLists changes a value that can be set. A slice whose items change is copied before:
// others may read it.
func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f, tag := v.Field(i), v.Type().Field(i).Tag.Get("json")
			if !f.CanSet() || strings.Contains(tag, "omit") && f.Kind() != reflect.Struct && f.IsZero() {
				continue
			}
			fillLists(f)
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return
		}
		if !hasLists(v.Type().Elem()) || v.Len() == 0 {
			return
		}
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		for i := range own.Len() {
			fillLists(own.Index(i))
		}
		v.Set(own)
	}
}

// hasLists reports whether a type has a list somewhere that JSON would show as null.
func hasLists(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return t.Kind() == reflect.Slice
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.IsExported() && hasLists(f.Type) && !(f.Type.Kind() == reflect.Slice && strings.Contains(f.Tag.Get("json"), "omit") && !hasLists(f.Type.Elem())) {
			return true
		}
	}
	return false
}
