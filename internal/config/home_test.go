package config

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/healthcheck"
	"github.com/havip/havip/internal/alarm"
	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/lb"
	"github.com/havip/havip/vip"
	"github.com/havip/havip/vrrp"
)

// TestEveryOptionHasARow: each field of the libraries' configurations is what a row
// points at, or is named here with who sets it. Defaults play no part in that.
func TestEveryOptionHasARow(t *testing.T) {
	elsewhere := map[string]string{
		"lb.PoolConfig.Name":    "the service's",
		"lb.Backend.TLS":        "embedders",
		"lb.TCPConfig.NoSplice": "benchmarks",
	}
	for _, f := range []string{"TCPConfig.Pool", "TCPConfig.Routes", "TCPConfig.TLS", "TCPConfig.BackendTLS", "TCPConfig.AcceptProxy", "TCPConfig.Limits",
		"UDPConfig.Pool", "HTTPConfig.Pool", "HTTPConfig.TLS", "HTTPConfig.BackendTLS", "HTTPConfig.AcceptProxy", "HTTPConfig.Limits"} {
		elsewhere["lb."+f] = "the daemon, of what the service has for all modes"
	}
	for _, f := range []string{"HTTP.TLS", "GRPC.TLS", "SMTP.TLS", "TLS.Config"} {
		elsewhere["healthcheck."+f] = "New, of what the files of TLS hold"
	}
	for _, f := range []string{"vrrp.Config.Name", "vrrp.Config.Addresses", "vrrp.Config.IPv6", "vrrp.Config.VirtualMAC", "vrrp.Config.NoOverlap", "vrrp.Config.Auth.Type", "vrrp.Config.Auth.Password",
		"vrrp.Config.Auth.HMAC.Keys", "vip.Config.Name", "vip.Config.VirtualMAC", "vip.Config.Addresses", "vip.Config.Owner", "vip.Address.Optional", "vip.Route.Optional"} {
		elsewhere[f] = "VRRPConfig or VIPConfig, of other keys"
	}
	elsewhere["vrrp.Config.Group"], elsewhere["vip.Config.Namespace"] = "the daemon", "the daemon"
	elsewhere["healthcheck.Config.Name"] = "the check's"
	elsewhere["lb.HTTPConfig.Routes"] = "Service.HTTPRoutes, of ServiceRoute"
	for _, f := range []string{"Webhook", "Token", "Email.Password"} {
		elsewhere["alarm.Config."+f] = "AlarmConfig, of secrets"
	}
	pointed := make(map[string]bool) // by field: a row points at it
	types := []reflect.Type{reflect.TypeFor[lb.PoolConfig](), reflect.TypeFor[lb.Backend](), reflect.TypeFor[lb.Limits](),
		reflect.TypeFor[lb.TCPConfig](), reflect.TypeFor[lb.Compress](), reflect.TypeFor[lb.Sticky](), reflect.TypeFor[lb.UDPConfig](), reflect.TypeFor[lb.HTTPConfig](), reflect.TypeFor[healthcheck.Config](),
		reflect.TypeFor[vrrp.Config](), reflect.TypeFor[vip.Config](), reflect.TypeFor[alarm.Config](), reflect.TypeFor[vip.Address](), reflect.TypeFor[vip.Route]()}
	for _, t := range checkTypes() {
		var c Check
		t.keys(&c)
		types = append(types, reflect.TypeOf(c.Checker).Elem())
	}
	walk("", "", new(Config).keys(), func(_ string, keys []key) {
		for _, k := range keys {
			for _, to := range k.value.to {
				if to.home != nil {
					pointed[to.config.Type().String()+"."+to.name] = true
				}
			}
		}
	})
	looked := map[string]string{ // by type: why it was, or is not, looked into
		"vrrp.ListenConfig": "the daemon's, of the routers on an interface",
		"lb.ListenerConfig": "the daemon's, of what a service has for all modes",
		"failover.Config":   "the daemon's, of VRRPConfig, VIPConfig and its own objects",
		"guard.Config":      "the daemon's, of its log",
		"vrrp.Key":          "VRRPConfig's, of Key", "healthcheck.StatusRange": "one text in the file", "lb.AccessRule": "one text in the file",
		"lb.Route": "Service.HTTPRoutes, of ServiceRoute", "lb.ErrorPage": "a mapping in a list", "lb.LocationRewrite": "a mapping in a list",
		"lb.AccessLogConfig": "Service.AccessLog's, of which the daemon makes one",
	}
	configs := publicConfigs(t)
	ours := func(t reflect.Type) bool {
		return t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), "github.com/havip/")
	}
	var visit func(t reflect.Type, name string) (lost []string)
	visit = func(typ reflect.Type, name string) (lost []string) {
		if why, twice := looked[typ.String()]; twice && name == typ.String() {
			t.Errorf("%s: is looked into, and also: %s", name, why)
		}
		looked[typ.String()] = "looked into"
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := name + "." + f.Name
			if f.Anonymous {
				name = strings.TrimSuffix(name, "."+f.Name) // its fields are those of the whole
			}
			if f.Type.Kind() == reflect.Slice && ours(f.Type.Elem()) {
				configs = append(configs, f.Type.Elem().String())
			}
			inside := ours(f.Type)
			if inside {
				configs = append(configs, f.Type.String())
			}
			switch _, known := elsewhere[name]; {
			case !f.IsExported():
			case f.Type.Kind() == reflect.Func, f.Type.Kind() == reflect.Interface, f.Type == reflect.TypeFor[*slog.Logger](): // no data
			case pointed[name] && known:
				t.Errorf("%s: has a row, and is set by: %s", name, elsewhere[name])
			case pointed[name] || known:
				delete(elsewhere, name)
			case inside:
				lost = append(lost, visit(f.Type, name)...)
			default:
				lost = append(lost, name)
			}
		}
		return lost
	}
	for _, typ := range types {
		for _, name := range visit(typ, typ.String()) {
			t.Errorf("%s: no row points at it, and nobody sets it", name)
		}
	}
	for name := range elsewhere {
		t.Errorf("%s: there is no such field", name)
	}
	for name, why := range looked {
		if why != "looked into" && !slices.Contains(configs, name) {
			t.Errorf("%s: there is no such type", name)
		}
	}
	for _, name := range configs {
		if looked[name] == "" {
			t.Errorf("%s: is not looked into: add it to the types, or say why not", name)
		}
	}
}

// publicConfigs are the exported structs of all public packages that are called Config,
// or something that ends in it.
func publicConfigs(t *testing.T) (names []string) {
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{"internal", "cmd", "examples", "testdata", ".git"}, entry.Name()):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if _, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Config") {
				names = append(names, file.Name.Name+"."+spec.Name.Name)
			}
			return false
		})
		return nil
	})
	if err != nil || len(names) < 10 {
		t.Errorf("only %d configurations were found: %v: %v", len(names), names, err)
	}
	return names
}

// library is a configuration like those of the libraries.
type library struct {
	Count   int
	Never   time.Duration
	NoRush  bool
	Servers []server
	Names   map[string]string
	Pool    *int // made later
}

type server struct{ Weight uint8 }

func (l library) WithDefaults() library {
	l.Count, l.Never = cmp.Or(l.Count, 3), cmp.Or(l.Never, time.Minute)
	return l
}

func (l library) Validate() error {
	l = l.WithDefaults()
	errs := []error{field.Between("Count", l.Count, 1, 9), field.Between("Never", max(l.Never, 0), 0, time.Hour)}
	if l.NoRush && l.Count > 5 {
		errs = append(errs, field.Errorf("NoRush", "true: want false with a Count of more than 5"))
	}
	for i, s := range l.Servers {
		errs = append(errs, field.In(fmt.Sprintf("Servers[%d]", i), field.Between("Weight", s.Weight, 1, 200)))
	}
	for name := range l.Names {
		if name == "Bad" {
			errs = append(errs, field.Errorf(`Names["Bad"]`, "%q: want another name", name))
		}
	}
	if l.Pool == nil {
		errs = append(errs, field.Errorf("Pool", "none: want one"))
	}
	return errors.Join(errs...)
}

// TestRowsAskTheLibrary: ranges, defaults and faults are the library's, and are told in
// the words of the file.
func TestRowsAskTheLibrary(t *testing.T) {
	rows := func(l *library) []key {
		return owned([]key{
			setting("how_many", integer(&l.Count), ""),
			setting("at_last", off(duration(&l.Never)), ""),
			setting("rush", not(&l.NoRush), ""),
			optional("servers", list(&l.Servers, func(s *server) value {
				return object(owned([]key{required("weight", integer(&s.Weight), "1", "")}, inside(s)))
			}), "", ""),
			optional("names", headers(&l.Names), "", ""),
		}, homeOf(l))
	}
	none := map[string]string{}
	for _, tc := range []struct {
		file string
		want library // with its defaults
		says string
	}{
		{file: "{}", want: library{Count: 3, Never: time.Minute}},
		{file: "{how_many: 7, at_last: 2s, rush: true}", want: library{Count: 7, Never: 2 * time.Second}},
		{file: "{at_last: 0s, rush: false}", want: library{Count: 3, Never: -1, NoRush: true}},
		{file: "{how_many: 0}", says: "f.yaml:1:12: how_many: 0: want 1 to 9"},
		{file: "{how_many: x}", says: "f.yaml:1:12: how_many: x: want 1 to 9"},
		{file: "{how_many: 10}", says: "f.yaml:1:12: how_many: 10: want 1 to 9"},
		{file: "{at_last: -1s}", says: "f.yaml:1:11: at_last: -1s: want 0s to 1h"},
		{file: "{at_last: 5}", says: "f.yaml:1:11: at_last: 5: a unit is missing: want 0s to 1h, such as 5s or 5ms"},
		{file: "{how_many: 6, rush: false}", says: "f.yaml:1:21: rush: false: want true with a how_many of more than 5"},
		{file: "{rush: false, how_many: [6]}", says: "f.yaml:1:25: how_many: a list: want 1 to 9"},
		{file: "{servers: [{weight: 1}, {weight: 201}]}", says: "f.yaml:1:34: servers[1].weight: 201: want 1 to 200"},
		{file: "{names: {Good: x}}", want: library{Count: 3, Never: time.Minute, Names: map[string]string{"Good": "x"}}},
		{file: "{names: {Good: x, Bad: y}}", says: "f.yaml:1:19: names.Bad: Bad: want another name"},
		{file: "{names: {}}", want: library{Count: 3, Never: time.Minute, Names: none}},
	} {
		var l library
		d := newDecoder("f.yaml")
		d.decode(object(rows(&l)), d.document([]byte(tc.file)), "")
		d.report(l.Validate(), "", rows(&l))
		said := Errors(d.problems).Error()
		if said != tc.says {
			t.Errorf("%s: says %q, want %q", tc.file, said, tc.says)
		}
		if said == "" && !reflect.DeepEqual(l, tc.want) {
			t.Errorf("%s: %+v, want %+v", tc.file, l, tc.want)
		}
	}
}

// TestMessagesSpeakTheFile: no message names a field of Go.
func TestMessagesSpeakTheFile(t *testing.T) {
	goName := regexp.MustCompile(`\b[A-Z]+[a-z]+[A-Z]\w*`)
	for _, c := range readBad(t) {
		for line := range strings.Lines(c.want) {
			if name := goName.FindString(line); name != "" && !strings.Contains(c.input, name) {
				t.Errorf("%s: %s: %s", c.name, name, line)
			}
		}
	}
}
