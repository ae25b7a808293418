package lb

import "reflect"

// clone returns a copy of c for requests that may read it at any time: the caller may change
// what slices and maps hold, or a Page, for the next Reconfigure. What c uses but does not own,
// such as a Pool, is the same.
func (c HandlerConfig) clone() HandlerConfig {
	return cloneValue(reflect.ValueOf(c)).Interface().(HandlerConfig)
}

// cloneValue copies what v holds, as deep as values are parts of a configuration.
func cloneValue(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(out, v)
		if refers(v.Type().Elem()) {
			for i := range v.Len() {
				out.Index(i).Set(cloneValue(v.Index(i)))
			}
		}
		return out
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			out.SetMapIndex(key, cloneValue(value))
		}
		return out
	case reflect.Pointer:
		if v.IsNil() || !isPart(v.Type().Elem()) {
			return v
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(cloneValue(v.Elem()))
		return out
	case reflect.Struct:
		if !isPart(v.Type()) {
			return v
		}
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		for i := range v.NumField() {
			out.Field(i).Set(cloneValue(v.Field(i)))
		}
		return out
	}
	return v
}

// refers reports whether values of a type may lead to others.
func refers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return true
	case reflect.Struct:
		return isPart(t)
	}
	return false
}

// isPart reports whether a type is a struct of this package that is nothing but its fields: a
// part of a configuration. Others, such as Pool and Htpasswd, have something to hide, or are
// somebody else's.
func isPart(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[HandlerConfig]().PkgPath() {
		return false
	}
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			return false
		}
	}
	return true
}
