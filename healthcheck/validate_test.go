package healthcheck

import (
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/field"
)

// validCheckers are checkers without a mistake, one of each type.
var validCheckers = []Checker{
	TCP{Address: strings.Repeat("a", 63) + ".example.org:80"}, HTTP{URL: "https://joe:secret@[2001:db8::1]:8443/health?x=y"}, GRPC{Address: "[2001:db8::1]:443"},
	DNS{Server: "192.0.2.53:53", Name: "_srv.example.org."}, ICMP{Address: "fe80::1%eth0"}, UDP{Address: "192.0.2.1:53"},
	SMTP{Address: "mail.example.org:25"}, TLS{Address: "host:443"}, Exec{Path: "/bin/true"}, File{Path: "flag"},
	Process{Name: "nginx"}, Interface{Name: "eth0.100"}, Gateway{Interface: "eth0", Address: netip.MustParseAddr("fe80::1")},
	At{Checker: TCP{Address: "host:80"}, Address: "[fe80::1%eth0]:80"}, Proxied{Checker: TCP{Address: "host:80"}},
}

// TestCheckersHaveOneShape: code that lists checkers needs no special case for any of them.
func TestCheckersHaveOneShape(t *testing.T) {
	for _, c := range validCheckers {
		t.Run(reflect.TypeOf(c).Name(), func(t *testing.T) {
			if err := c.(interface{ Validate() error }).Validate(); err != nil {
				t.Errorf("%v: %v", c, err)
			}
			// String names the target, for the log.
			if s, ok := c.(interface{ String() string }); !ok || !strings.Contains(s.String(), " ") {
				t.Errorf("%#v is no Stringer that says what is checked", c)
			}
			defaults := reflect.ValueOf(c).MethodByName("WithDefaults")
			once := defaults.Call(nil)[0]
			twice := once.MethodByName("WithDefaults").Call(nil)[0]
			if once.Type() != reflect.TypeOf(c) || !reflect.DeepEqual(once.Interface(), twice.Interface()) {
				t.Errorf("defaults: %+v, and again: %+v", once, twice)
			}
			if err := once.Interface().(interface{ Validate() error }).Validate(); err != nil {
				t.Errorf("the defaults are refused: %v", err)
			}
			zero := reflect.Zero(reflect.TypeOf(c)).Interface().(interface{ Validate() error })
			for _, wrong := range field.All(zero.Validate()) {
				if _, is := reflect.TypeOf(c).FieldByName(wrong.Field); !is {
					t.Errorf("an error of no field: %v", wrong)
				}
			}
			if zero.Validate() == nil {
				t.Error("a check of nothing is accepted")
			}
		})
	}
	if got := (HTTP{}).WithDefaults(); got.Method != "GET" || got.MaxBody != 64<<10 || !slices.Equal(got.Status, []StatusRange{{200, 399}}) {
		t.Errorf("defaults of HTTP: %+v", got)
	}
	if (DNS{}).WithDefaults().Type != "A" || (Exec{}).WithDefaults().Dir != "/" || (Process{}).WithDefaults().Min != 1 {
		t.Error("defaults of DNS, Exec and Process: want A, / and 1")
	}
}

// TestCheckerMistakes: all are found at once, and each names its field.
func TestCheckerMistakes(t *testing.T) {
	for _, tt := range []struct {
		c    interface{ Validate() error }
		want []string
	}{
		{TCP{Address: "0.0.0.0:80"}, []string{"Address"}},
		{TCP{Address: "1.2.3:80"}, []string{"Address"}},
		{TCP{Address: strings.Repeat("a", 64) + ".example.org:80"}, []string{"Address"}},
		{DNS{Server: "192.0.2.53:53", Name: "www." + strings.Repeat("a", 64)}, []string{"Name"}},
		{DNS{Server: "192.0.2.53:53", Name: "www..org"}, []string{"Name"}},
		{HTTP{URL: "http://host:99999/", Method: "get", Host: "a b", MaxBody: 16<<20 + 1, Status: []StatusRange{{200, 299}, {300, 200}, {99, 200}}},
			[]string{"URL", "Method", "Host", "Status[1]", "Status[2]", "MaxBody"}},
		{HTTP{URL: "http://host/#x", Header: http.Header{"A B": {"x"}}}, []string{"URL", `Header["A B"]`}},
		{HTTP{URL: "http://host/", Header: http.Header{"Host": {"x"}}}, []string{`Header["Host"]`}},
		{HTTP{URL: "http://host/", Header: http.Header{"X": {"secret\n"}}}, []string{`Header["X"]`}},
		{GRPC{Address: "host", Service: "a\nb", Authority: "a b"}, []string{"Address", "Service", "Authority"}},
		{DNS{Server: "host", Name: "a b", Type: "X", Expect: []string{"192.0.2.1", ""}}, []string{"Server", "Type", "Name", "Expect[1]"}},
		{ICMP{Address: "1.2.3"}, []string{"Address"}},
		{SMTP{Address: ":25", Hello: "a b"}, []string{"Address", "Hello"}},
		{TLS{Address: "host", MinValidity: 11 * maxAge}, []string{"Address", "MinValidity"}},
		{Exec{Path: "true", Args: []string{"-x", "secret\x00"}, Env: []string{"A=B", "secret", "A=secret\x00"}, Dir: "lib", User: "a b"},
			[]string{"Path", "Args[1]", "Env[1]", "Env[2]", "Dir", "User"}},
		{File{Path: "x", Absent: true, MaxAge: time.Second}, []string{"Absent"}},
		{File{MaxAge: -1, Content: regexp.MustCompile("x")}, []string{"Path", "MaxAge"}},
		{Process{PIDFile: "/x", Min: 2}, []string{"Min"}},
		{Process{Name: "x", Min: 10001}, []string{"Min"}},
		{Interface{Name: "a/b"}, []string{"Name"}},
		{Gateway{}, []string{"Interface", "Address"}},
		{At{Checker: DNS{Server: "192.0.2.53:53"}, Address: "host"}, []string{"Address", "Checker.Name"}},
		{Proxied{Checker: TCP{Address: "host"}, Version: 3}, []string{"Checker.Address", "Version"}},
	} {
		var got []string
		err := tt.c.Validate()
		for _, wrong := range field.All(err) {
			got = append(got, wrong.Field)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: mistakes in %q, want %q", tt.c, got, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: shows what may be a password", err)
		}
		if wrong, is := errors.AsType[*FieldError](err); !is || strings.HasPrefix(wrong.Err.Error(), wrong.Field) || !strings.Contains(wrong.Err.Error(), "want ") {
			t.Errorf("%v: want the value and what is wanted, without the field", wrong)
		}
	}
}
