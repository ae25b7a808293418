package lb

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// usedByConfig are what a configuration uses, but does not own.
var usedByConfig = []reflect.Type{reflect.TypeFor[*Pool](), reflect.TypeFor[*Htpasswd](), reflect.TypeFor[*tls.Config](), reflect.TypeFor[*slog.Logger]()}

// fillConfig gives a configuration a value in each of its fields, and in all that these hold.
// A route has no routes.
func fillConfig(v reflect.Value, routed bool) {
	switch v.Kind() {
	case reflect.Slice:
		if isRoutes := v.Type() == reflect.TypeFor[[]Route](); !isRoutes || !routed {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fillConfig(v.Index(0), routed || isRoutes)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fillConfig(value, routed)
		v.SetMapIndex(reflect.ValueOf("name"), value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if !slices.Contains(usedByConfig, v.Type()) {
			fillConfig(v.Elem(), routed)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillConfig(v.Field(i), routed)
			}
		}
	}
}

// shared returns what of a value is in its copy as well: the paths of fields. seen counts what
// was compared.
func shared(a, b reflect.Value, at string, seen *int) (all []string) {
	switch a.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer:
		switch {
		case a.IsNil(), slices.Contains(usedByConfig, a.Type()):
			return nil
		case a.Pointer() == b.Pointer():
			return []string{at}
		}
		*seen++
	}
	switch a.Kind() {
	case reflect.Slice:
		for i := range a.Len() {
			all = append(all, shared(a.Index(i), b.Index(i), at+"[]", seen)...)
		}
	case reflect.Map:
		for _, key := range a.MapKeys() {
			all = append(all, shared(a.MapIndex(key), b.MapIndex(key), at+"[]", seen)...)
		}
	case reflect.Pointer:
		return shared(a.Elem(), b.Elem(), at, seen)
	case reflect.Struct:
		for i := range a.NumField() {
			if f := a.Type().Field(i); f.IsExported() {
				all = append(all, shared(a.Field(i), b.Field(i), at+"."+f.Name, seen)...)
			}
		}
	}
	return all
}

// TestConfigIsTheCallers: nothing that a caller may change for the next Reconfigure is what
// requests read.
func TestConfigIsTheCallers(t *testing.T) {
	var cfg HandlerConfig
	fillConfig(reflect.ValueOf(&cfg).Elem(), false)
	copied, seen := cfg.clone(), 0
	if !reflect.DeepEqual(cfg, copied) {
		t.Errorf("%+v, want %+v", copied, cfg)
	}
	for _, at := range shared(reflect.ValueOf(cfg), reflect.ValueOf(copied), "", &seen) {
		t.Errorf("HandlerConfig%s is shared with the caller", at)
	}
	if seen < 40 {
		t.Errorf("%d slices, maps and pointers were looked at: there are more", seen)
	}
}

// TestSettingsAreTheirOwn: requests go by the rules that were valid, whatever the caller does
// with these afterwards.
func TestSettingsAreTheirOwn(t *testing.T) {
	cfg := HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}, RetryStatuses: []int{503}},
		Routes: []Route{{Name: "r", Methods: []string{"GET"}, Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}}
	s := newHandlerSettings(cfg)
	cfg.Access[0].Deny, cfg.RetryStatuses[0] = false, 500
	cfg.Routes[0].Methods[0], cfg.Routes[0].Sources[0] = "POST", netip.MustParsePrefix("198.51.100.0/24")
	r := s.router.all.find(&exchange{req: parsedRequest(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), client: netip.MustParseAddrPort("192.0.2.1:1")}, "/")
	if r == nil || !s.Access[0].Deny || !s.routed[0].Access[0].Deny || s.RetryStatuses[0] != 503 {
		t.Errorf("settings %v %v, route %v", s.Access, s.RetryStatuses, r)
	}
}
