package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/havip/havip/internal/field"
)

// A row of a key table points at the field that gets the key's value. Most of these
// fields belong to a library's configuration. The library knows the range and the
// default of its field; the row repeats neither, and asks the configuration that it
// points into: its home.

// home is a library's configuration that rows point into.
type home struct {
	config   reflect.Value // the struct, which can be set
	validate func() error
	defaults func() reflect.Value // the struct with its zero fields filled in
}

// homeOf is the home of the rows that point into c.
func homeOf[T interface {
	Validate() error
	WithDefaults() T
}](c *T) home {
	return home{
		config:   reflect.ValueOf(c).Elem(),
		validate: func() error { return (*c).Validate() },
		defaults: func() reflect.Value { return reflect.ValueOf((*c).WithDefaults()) },
	}
}

// owned finds, for each field that a row points at, which home it is in.
func owned(keys []key, homes ...home) []key {
	for _, k := range keys {
		for i, o := range k.value.owners() {
			for _, h := range homes {
				if index := fieldIndex(h.config, k.value.to[i]); index != nil && !o.known() {
					o.home, o.index = h, index
				}
			}
		}
	}
	return keys
}

// owners are those of all fields that a value goes to.
func (v value) owners() []*owner {
	if v.owner == nil {
		return nil
	}
	return append([]*owner{v.owner}, v.others...)
}

// fieldIndex is the way from a struct to its field that to points at; nil: to
// points elsewhere.
func fieldIndex(config reflect.Value, to any) []int {
	p := reflect.ValueOf(to)
	for i := range config.NumField() {
		f := config.Field(i)
		if f.UnsafeAddr() == p.Pointer() && f.Type() == p.Type().Elem() {
			return []int{i}
		}
		if f.Kind() == reflect.Struct {
			if rest := fieldIndex(f, to); rest != nil {
				return append([]int{i}, rest...)
			}
		}
	}
	return nil
}

// owner is what a row knows of its field.
type owner struct {
	home
	index []int // of the field in home.config
	// off: a zero in the file is -1 in the field, where zero means the default.
	off bool
	// positive: a zero in the file is no number for the field, whose default follows
	// from what the home alone does not know.
	positive bool
	// not: the field says the opposite of the key.
	not bool
	// alone: the only item of a list may stand without it.
	alone bool
	// either are the words for false and true.
	either []string
}

func (o *owner) known() bool { return o != nil && o.index != nil }

func (o *owner) field() reflect.Value { return o.config.FieldByIndex(o.index) }

// preset is the default, as far as it follows from the other fields.
func (o *owner) preset() reflect.Value {
	f := o.field()
	before := reflect.New(f.Type()).Elem()
	before.Set(f)
	defer f.Set(before)
	f.SetZero()
	return o.defaults().FieldByIndex(o.index)
}

// takesZero reports whether the file may say zero. Where the default is not zero, a
// library takes zero for "use the default": in a file that would be a surprise.
func (o *owner) takesZero() bool { return o.off || !o.positive && o.preset().IsZero() }

// says is want, or what the row says itself.
func (o *owner) says(want string) string {
	if want == "" && o.known() {
		return o.want()
	}
	return want
}

// want is what may stand in a number or a text, in words. The library says it when it
// is given something absurd.
func (o *owner) want() string {
	f := o.field()
	least, most, ok := extremes(f.Type())
	if !ok {
		return ""
	}
	before := reflect.New(o.config.Type()).Elem()
	before.Set(o.config)
	defer o.config.Set(before)
	o.config.SetZero() // whatever is wrong beside it
	for _, absurd := range []reflect.Value{most, least} {
		f.Set(absurd)
		for _, e := range field.All(o.validate()) {
			if at, _ := follow(o.config, e.Field); len(at) > 0 && at[0] == f.Addr().Interface() {
				if _, want, ok := strings.Cut(e.Err.Error(), "want "); ok {
					return want
				}
			}
		}
	}
	if f.Kind() == reflect.String {
		return "text"
	}
	if o.takesZero() {
		least = reflect.Zero(f.Type())
	} else {
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
	case reflect.Uint8:
		low, high = 0, math.MaxUint8
	case reflect.Uint32:
		low, high = 0, math.MaxUint32
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
	switch x := v.Interface().(type) {
	case time.Duration:
		return field.Span(x)
	case encoding.TextMarshaler:
		t, _ := x.MarshalText()
		return string(t)
	}
	switch v.Kind() {
	case reflect.Slice:
		var items []string
		for i := range v.Len() {
			items = append(items, yamlText(v.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// sample is the default as a file has it.
func (o *owner) sample() string {
	switch v := o.preset(); {
	case o.not:
		return fmt.Sprint(!v.Bool())
	case o.off && v.Int() < 0:
		return yamlText(reflect.Zero(v.Type()))
	case o.alone && v.Len() == 1:
		return yamlText(v.Index(0))
	case o.either != nil && v.Bool():
		return o.either[1]
	case o.either != nil:
		return o.either[0]
	default:
		return yamlText(v)
	}
}

// settle gives the fields of a mapping that the file does not name their defaults.
func settle(keys []key) { settleFrom(keys, make(map[any]reflect.Value)) }

// settleFrom is settle with the defaults of each home, by pointer to its configuration.
func settleFrom(keys []key, defaults map[any]reflect.Value) {
	for _, k := range keys {
		settleFrom(k.value.keys, defaults)
		if k.preset != "" {
			continue
		}
		for _, o := range k.value.owners() {
			if !o.known() || !o.field().IsZero() {
				continue
			}
			config := o.config.Addr().Interface()
			if _, ok := defaults[config]; !ok {
				defaults[config] = o.defaults()
			}
			o.field().Set(defaults[config].FieldByIndex(o.index))
		}
	}
}
