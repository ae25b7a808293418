package lb

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

func TestSRV(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "_http._tcp.example.test"
		z := &zone{srv: map[string][]*net.SRV{}, hosts: map[string][]string{"a.test": {"192.0.2.1"}, "b.test": {"192.0.2.2", "192.0.2.3"}, "c.test": {"192.0.2.4"}}}
		p, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: name, Weight: 7}}})
		if _, err := p.Pick(nil); !errors.Is(err, ErrNoBackend) {
			t.Errorf("without an answer: %v, want ErrNoBackend", err)
		}
		expect(t, "no answer", step(func() {}), "")
		expect(t, "no answer", strings.Join(p.Status().Unresolved, " "), "app")
		expect(t, "an answer", step(func() {
			z.srv[name] = []*net.SRV{{Target: "c.test.", Port: 8082, Priority: 20, Weight: 5}, {Target: "b.test.", Port: 8081, Priority: 10, Weight: 2},
				{Target: "a.test.", Port: 8080, Priority: 10}}
		}), "app/192.0.2.1:8080 app/192.0.2.2:8081*2 app/192.0.2.3:8081*2 app/192.0.2.4:8082+*5")
		expect(t, "an answer", strings.Join(p.Status().Unresolved, " "), "")
		if b := p.Status().Backends[0]; b.Authority != "example.test:8080" || b.Origin != "app" || b.Resolved != "192.0.2.1:8080" {
			t.Errorf("%+v", b)
		}
		p.SetHealth("app/192.0.2.2:8081", errDown)
		expect(t, "no weights", step(func() {
			z.srv[name] = []*net.SRV{{Target: "b.test.", Port: 8081, Priority: 1}, {Target: "a.test.", Port: 8080, Priority: 1}}
		}), "app/192.0.2.1:8080*7 app/192.0.2.2:8081!*7 app/192.0.2.3:8081*7")
		expect(t, "one target is unknown for a while", step(func() {
			delete(z.hosts, "b.test")
			z.srv[name] = append(z.srv[name], &net.SRV{Target: "c.test.", Port: 1, Priority: 1})
		}), "app/192.0.2.1:8080*7 app/192.0.2.2:8081!*7 app/192.0.2.3:8081*7 app/192.0.2.4:1*7")
		expect(t, "the service is called off, which is no answer", step(func() { z.srv[name] = []*net.SRV{{Target: ".", Priority: 1}} }),
			"app/192.0.2.1:8080*7 app/192.0.2.2:8081!*7 app/192.0.2.3:8081*7 app/192.0.2.4:1*7")
		expect(t, "one record", step(func() { z.srv[name] = []*net.SRV{{Target: "a.test.", Port: 8080}} }), "app/192.0.2.1:8080*7")
	})
}

// One of the records, of the best priority, and the same one as long as it is there.
func TestSRVFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "_http._tcp.example.test"
		z := &zone{hosts: map[string][]string{"a.test": {"192.0.2.1"}, "b.test": {"192.0.2.2"}, "c.test": {"192.0.2.3"}},
			srv: map[string][]*net.SRV{name: {{Target: "a.test.", Port: 80, Priority: 2}, {Target: "c.test.", Port: 80, Priority: 1}}}}
		_, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: name, Resolve: ResolveFirst}}})
		expect(t, "the best priority", step(func() {}), "app=192.0.2.3:80")
		expect(t, "it stays", step(func() {
			z.srv[name] = append(z.srv[name], &net.SRV{Target: "b.test.", Port: 80, Priority: 1})
		}), "app=192.0.2.3:80")
		expect(t, "it is not the best any more", step(func() { z.srv[name][1].Priority = 3 }), "app=192.0.2.2:80")
	})
}

// The certificate of a backend with SRV records is for the domain that has them.
func TestNameOfSRVInTLS(t *testing.T) {
	for address, want := range map[string]string{"_https._tcp.example.org": "example.org", "_https._tcp.example.org.": "example.org",
		"app.example.org:443": "app.example.org", "192.0.2.1:443": "192.0.2.1", "unix:/x": ""} {
		if got := (Backend{Address: address}).host(); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
