package config

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/havip/havip/healthcheck"
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
		"lb.TCPConfig.NoSplice": "benchmarks", "lb.HandlerConfig.ClientTimeout": "nobody: the default is nginx's",
	}
	for _, f := range []string{"TCPConfig.Pool", "TCPConfig.Routes", "TCPConfig.TLS", "TCPConfig.BackendTLS", "TCPConfig.AcceptProxy", "TCPConfig.Limits",
		"UDPConfig.Pool", "HandlerConfig.Pool", "HandlerConfig.BackendTLS"} {
		elsewhere["lb."+f] = "the daemon, of what the service has for all modes"
	}
	for _, f := range []string{"HTTP.TLS", "GRPC.TLS", "SMTP.TLS", "TLS.Config"} {
		elsewhere["healthcheck."+f] = "New, of what the files of TLS hold"
	}
	for _, f := range []string{"vrrp.Config.Name", "vrrp.Config.Addresses", "vrrp.Config.IPv6", "vrrp.Config.VirtualMAC", "vrrp.Config.Auth.Type", "vrrp.Config.Auth.Password",
		"vrrp.Config.Auth.HMAC.Keys", "vip.Config.Name", "vip.Config.VirtualMAC", "vip.Config.Addresses", "vip.Config.Owner", "vip.Address.Optional", "vip.Route.Optional"} {
		elsewhere[f] = "VRRPConfig or VIPConfig, of other keys"
	}
	elsewhere["vrrp.Config.Group"], elsewhere["vip.Config.Namespace"] = "the daemon", "the daemon"
	elsewhere["healthcheck.Config.Name"] = "the check's"
	pointed := make(map[string]bool) // by field: a row points at it
	types := []reflect.Type{reflect.TypeFor[lb.PoolConfig](), reflect.TypeFor[lb.Backend](), reflect.TypeFor[lb.Limits](),
		reflect.TypeFor[lb.TCPConfig](), reflect.TypeFor[lb.UDPConfig](), reflect.TypeFor[lb.HandlerConfig](), reflect.TypeFor[Front](), reflect.TypeFor[healthcheck.Config](),
		reflect.TypeFor[vrrp.Config](), reflect.TypeFor[vip.Config](), reflect.TypeFor[vip.Address](), reflect.TypeFor[vip.Route]()}
	for _, t := range checkTypes() {
		var c Check
		t.keys(&c)
		types = append(types, reflect.TypeOf(c.Checker).Elem())
	}
	walk("", "", new(Config).keys(), nil, func(_ string, keys []key) {
		for _, k := range keys {
			for _, o := range k.value.owners() {
				if !o.known() {
					continue
				}
				name := o.config.Type().String()
				for _, i := range o.index {
					name += fmt.Sprint(".", i)
				}
				pointed[name] = true
			}
		}
	})
	var visit func(t reflect.Type, name, index string) (lost []string)
	visit = func(typ reflect.Type, name, index string) (lost []string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, index := name+"."+f.Name, fmt.Sprint(index, ".", i)
			inside := f.Type.Kind() == reflect.Struct && strings.HasPrefix(f.Type.PkgPath(), "github.com/havip/")
			switch _, known := elsewhere[name]; {
			case !f.IsExported():
			case f.Type.Kind() == reflect.Func, f.Type.Kind() == reflect.Interface, f.Type == reflect.TypeFor[*slog.Logger](): // no data
			case pointed[index] && known:
				t.Errorf("%s: has a row, and is set by: %s", name, elsewhere[name])
			case pointed[index] || known:
				delete(elsewhere, name)
			case inside:
				lost = append(lost, visit(f.Type, name, index)...)
			default:
				lost = append(lost, name)
			}
		}
		return lost
	}
	for _, typ := range types {
		for _, name := range visit(typ, typ.String(), typ.String()) {
			t.Errorf("%s: no row points at it, and nobody sets it", name)
		}
	}
	for name := range elsewhere {
		t.Errorf("%s: there is no such field", name)
	}
}
