package lb

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestRouteOwnsEachField: a route has the Handler's value of each field, and none where it says
// that the field is its own.
func TestRouteOwnsEachField(t *testing.T) {
	var above HandlerConfig
	var fields []string
	fillFields(reflect.ValueOf(&above).Elem(), &fields)
	for _, name := range fields {
		if slices.Contains(handlersAlone, name) || slices.Contains(ownAlone, name) {
			continue
		}
		of := func(r Route) reflect.Value { return reflect.ValueOf(above.inherit(r)).FieldByName(name) }
		if v := of(Route{}); v.IsZero() {
			t.Errorf("%s is not inherited", name)
		}
		if v := of(Route{Own: []string{name}}); !v.IsZero() {
			t.Errorf("%s: a route cannot be without", name)
		}
		if err := (HandlerConfig{Pool: newPool(t, PoolConfig{}), Routes: []Route{{Name: "a", Own: []string{name}}}}).Validate(); err != nil && name != "Pool" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(fields) < 40 {
		t.Errorf("only %d fields: this test has lost sight of them", len(fields))
	}
}

// fillFields gives all fields of a configuration a value that is not zero, and tells their names.
func fillFields(v reflect.Value, names *[]string) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if v.Type().Field(i).Anonymous {
			fillFields(f, names)
			continue
		}
		*names = append(*names, name)
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int, reflect.Int64:
			f.SetInt(1)
		case reflect.Uint8:
			f.SetUint(1)
		case reflect.Float64:
			f.SetFloat(1)
		case reflect.String:
			f.SetString("x")
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.MakeMap(f.Type()))
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), nil))
		case reflect.Struct:
			fillFields(f, new([]string))
		}
	}
}

// TestRouteSaysZero: what a route says is zero counts on all ways: no bound of bodies, no
// maintenance, no pages, no PROXY header and no TLS to its backends.
func TestRouteSaysZero(t *testing.T) {
	plain := webBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/error") {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(r.Header.Get("X-A") + "backend"))
	})
	own := func(path string, fields ...string) Route {
		return Route{Name: path, Paths: []string{path}, Own: fields}
	}
	page := ErrorPage{Statuses: []int{418}, Page: Page{Content: []byte("page")}}
	up, many := "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, c := range []struct {
		name    string
		above   HandlerConfig
		fields  []string
		request string // with a place for the path
		without string // what the Handler's rule makes of that
	}{
		{"no bound of bodies", HandlerConfig{MaxBody: 3}, []string{"MaxBody"}, up, "413"},
		{"no maintenance", HandlerConfig{Rules: Rules{Maintenance: true}}, []string{"Maintenance"}, many, "503"},
		{"nobody is kept out", HandlerConfig{Rules: Rules{Access: []AccessRule{{Deny: true}}}}, []string{"Access"}, many, "403"},
		{"no header", HandlerConfig{RequestHeaders: map[string]string{"X-A": "a"}}, []string{"RequestHeaders"}, many, "200\nabackend"},
		{"no PROXY header", HandlerConfig{Rules: Rules{SendProxy: ProxyV1}}, []string{"SendProxy"}, many, "400"},
		{"no TLS", HandlerConfig{BackendTLS: new(tls.Config)}, []string{"BackendTLS"}, many, "502"},
		{"HTTP/1.1", HandlerConfig{BackendProtocol: BackendHTTP2}, []string{"BackendProtocol"}, many, "502"},
		{"no bound of targets", HandlerConfig{Rules: Rules{MaxURI: 3}}, []string{"MaxURI"}, many, "414"},
		{"no pages", HandlerConfig{Rules: Rules{ErrorPages: []ErrorPage{page}, InterceptErrors: true}}, []string{"InterceptErrors"}, many, "418\npage"},
	} {
		for _, front := range trapFronts() {
			t.Run(c.name+"/"+front.name, func(t *testing.T) {
				path := "/own"
				if c.name == "no pages" {
					path = "/error"
				}
				c.above.Routes = []Route{own(path, c.fields...), own("/")}
				s := front.serve(t, c.above, plain)
				want := "200\nbackend"
				if path == "/error" {
					want = "418\nbackend"
				}
				if got := s.askRaw(t, strings.Replace(c.request, "%s", path, 1)); got != want {
					t.Errorf("own: %q, want %q", got, want)
				}
				if got := s.askRaw(t, strings.Replace(c.request, "%s", "/x"+path, 1)); path != "/error" && !strings.HasPrefix(got, c.without) {
					t.Errorf("the Handler's: %q, want %q", got, c.without)
				}
			})
		}
	}
}

// TestRouteOwnsSayWhatIsWrong: names that are no fields, and those that a route cannot have.
func TestRouteOwnsSayWhatIsWrong(t *testing.T) {
	for name, want := range map[string]string{
		"MaxBodies": `Routes[0].Own[0]: "MaxBodies": want the name of a field, such as MaxBody`, "Rules": "want the name of a field", "MaxHeader": "want none in a route",
	} {
		err := HandlerConfig{Pool: newPool(t, PoolConfig{}), Routes: []Route{{Name: "a", Own: []string{name}}}}.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestRouteTakesTheLessGeneral: a key and pages of a route are not put aside by functions of the
// Handler, which would come first.
func TestRouteTakesTheLessGeneral(t *testing.T) {
	above := HandlerConfig{Key: func(*http.Request) string { return "" }, ErrorHandler: func(http.ResponseWriter, *http.Request, error) {},
		TrustedProxies: []netip.Prefix{{}}, Logger: slog.Default(), Dial: func(context.Context, string, string) (net.Conn, error) { return nil, nil }}
	for _, c := range []struct {
		own          HandlerConfig
		key, handler bool
	}{
		{HandlerConfig{}, true, true},
		{HandlerConfig{Rules: Rules{HashKey: "${host}"}}, false, true},
		{HandlerConfig{Rules: Rules{Sorry: &Page{}}}, true, false},
		{HandlerConfig{Rules: Rules{MaintenancePage: &Page{}}}, true, false},
		{HandlerConfig{Rules: Rules{ErrorPages: []ErrorPage{{}}}}, true, false},
	} {
		got := above.inherit(Route{HandlerConfig: c.own})
		if (got.Key != nil) != c.key || (got.ErrorHandler != nil) != c.handler {
			t.Errorf("%+v: key %v, error handler %v; want %v, %v", c.own.Rules, got.Key != nil, got.ErrorHandler != nil, c.key, c.handler)
		}
	}
}
