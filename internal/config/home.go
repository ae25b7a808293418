package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/havip/havip/internal/field"
)

// A row of a key table points at the field that gets the key's value. Most of these
// fields belong to a library's configuration. The library knows the range and the
// default of its field; the row repeats neither, and asks the configuration that it
// points into: its home.

// home is a struct that rows point into: a library's configuration, or one of this
// package, which has the fields' names only.
type home struct {
	config   reflect.Value // the struct, which can be set
	validate func() error  // nil: no library's
	fill     func()        // gives zero fields of the struct their defaults
}

// homeOf is the home of the rows that point into c.
func homeOf[T interface {
	Validate() error
	WithDefaults() T
}](c *T) *home {
	h := inside(c)
	h.validate, h.fill = func() error { return (*c).Validate() }, func() { *c = (*c).WithDefaults() }
	return h
}

// inside is the home of rows that point into a struct of this package.
func inside[T any](c *T) *home { return &home{config: reflect.ValueOf(c).Elem()} }

// try runs do, which may change the configuration, and puts the configuration back.
func (h *home) try(do func()) {
	before := reflect.New(h.config.Type()).Elem()
	before.Set(h.config)
	defer h.config.Set(before)
	do()
}

// target is a field that gets the value of a key.
type target struct {
	to    any    // points at the field
	name  string // of the field in its home: Announce.Burst
	*home        // nil: no library's
	// want is what may stand here, in words. Empty: the library says it.
	want string
	// off: a zero in the file is -1 in the field, where zero means the default.
	off bool
	// positive: a zero in the file is no number for the field, whose default follows
	// from what the home alone does not know.
	positive bool
	// inherited: without a key the field stays zero, which stands for the value of another; here
	// are the names of the fields that the file says to be zero. nil: nothing is inherited.
	inherited *[]string
	// whole: it is zero with all of its mapping, which is not inherited.
	whole bool
	// not: the field says the opposite of the key.
	not bool
	// alone: the only item of a list may stand without it.
	alone bool
	// either are the words for false and true.
	either []string
	// show prints a value for which the type alone does not do; empty: the type does. nil:
	// it always does.
	show func(reflect.Value) string
}

// owned finds, for each field that a row points at, the first of homes that it is in.
func owned(keys []key, homes ...*home) []key {
	for _, k := range keys {
		for _, t := range k.value.to {
			for _, h := range homes {
				if t.name != "" {
					break
				}
				if t.name = fieldName(h.config, t.to); t.name != "" && h.validate != nil {
					t.home = h
				}
			}
		}
	}
	return keys
}

// fieldName is the name, in a struct, of the field that to points at; empty: to points
// elsewhere.
func fieldName(config reflect.Value, to any) string {
	p := reflect.ValueOf(to)
	for i := range config.NumField() {
		f, name := config.Field(i), config.Type().Field(i).Name
		if f.UnsafeAddr() == p.Pointer() && f.Type() == p.Type().Elem() {
			return name
		}
		if f.Kind() == reflect.Struct {
			switch rest := fieldName(f, to); {
			case rest == "":
			case config.Type().Field(i).Anonymous:
				return rest
			default:
				return name + "." + rest
			}
		}
	}
	return ""
}

// isAnothers reports whether the value is that of another field, which is inherited.
func (t *target) isAnothers() bool {
	return t.inherited != nil && t.field().IsZero() && !slices.Contains(*t.inherited, t.name)
}

// isEmptied reports whether the file says zero, or nothing, in the place of another value.
func (t *target) isEmptied() bool {
	f := t.field()
	switch f.Kind() {
	case reflect.Slice, reflect.Map:
		return t.inherited != nil && !f.IsNil() && f.Len() == 0
	}
	return t.inherited != nil && !t.whole && f.IsZero() && !t.isAnothers()
}

func (t *target) field() reflect.Value { return reflect.ValueOf(t.to).Elem() }

// preset is the library's default, as far as it follows from the other fields.
func (t *target) preset() (v reflect.Value) {
	t.try(func() {
		t.field().SetZero()
		t.fill()
		v = reflect.ValueOf(t.field().Interface())
	})
	return v
}

// takesZero reports whether the file may say zero. Where the default is not zero, a
// library takes zero for "use the default": in a file that would be a surprise.
func (t *target) takesZero() bool { return t.off || !t.positive && t.preset().IsZero() }

// wants is what may stand in the file, in words.
func (t *target) wants() string {
	if t.want == "" && t.home != nil {
		return t.bounds()
	}
	return t.want
}

// bounds is what may stand in a number or a text, in words. The library says it when
// it is given something absurd.
func (t *target) bounds() (want string) {
	f := t.field()
	least, most, ok := extremes(f.Type())
	if !ok {
		return ""
	}
	t.try(func() {
		t.config.SetZero() // whatever is wrong beside the field
		for _, absurd := range []reflect.Value{most, least} {
			f.Set(absurd)
			for _, e := range field.All(t.validate()) {
				if _, said, ok := strings.Cut(e.Err.Error(), "want "); ok && e.Field == t.name && want == "" {
					want = said
				}
			}
		}
	})
	switch {
	case want != "":
		return want
	case f.Kind() == reflect.String:
		return "text"
	case t.takesZero():
		least = reflect.Zero(f.Type())
	default:
		least = reflect.ValueOf(1).Convert(f.Type())
	}
	return fmt.Sprintf("%s to %s", yamlText(least), yamlText(most))
}

// extremes are the ends of a type of numbers; of texts one that none is.
func extremes(t reflect.Type) (least, most reflect.Value, ok bool) {
	var low, high any
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		low, high = math.MinInt64+1, math.MaxInt64
	case reflect.Uint8, reflect.Uint32:
		low, high = 0, uint64(math.MaxUint64)
	case reflect.Float64:
		low, high = -math.MaxFloat64, math.MaxFloat64
	case reflect.String:
		low, high = "\x00", "\x00"
	default:
		return least, most, false
	}
	return reflect.ValueOf(low).Convert(t), reflect.ValueOf(high).Convert(t), true
}

// yamlText prints a value as a file has it.
func yamlText(v reflect.Value) string {
	if text, ok := textOf(v.Interface()); ok {
		return text
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		t, _ := m.MarshalText()
		return string(t)
	}
	if v.Kind() != reflect.Slice {
		return field.Text(v.Interface())
	}
	var items []string
	for _, item := range v.Seq2() {
		items = append(items, yamlText(item))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// sample is the default as a file has it.
func (t *target) sample() string { return t.said(t.preset()) }

// negative reports whether a number of any kind is below zero.
func negative(v reflect.Value) bool {
	return v.CanInt() && v.Int() < 0 || v.CanFloat() && v.Float() < 0
}

// said is a value of the field as a file has it.
func (t *target) said(v reflect.Value) string {
	switch {
	case t.show != nil && v.Kind() != reflect.Invalid && t.show(v) != "":
		return t.show(v)
	case t.not:
		return fmt.Sprint(!v.Bool())
	case t.off && negative(v):
		return yamlText(reflect.Zero(v.Type()))
	case t.alone && v.Len() == 1:
		return yamlText(v.Index(0))
	case t.either != nil && v.Bool():
		return t.either[1]
	case t.either != nil:
		return t.either[0]
	default:
		return yamlText(v)
	}
}
