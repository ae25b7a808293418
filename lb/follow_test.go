package lb

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// Who follows a pool is told of each backend when it comes and when it goes, whatever
// brings that about, and of nothing else.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"app.test": {"192.0.2.1", "192.0.2.2"}}}
		p, step := resolving(t, z, PoolConfig{Backends: []Backend{{Name: "app", Address: "app.test:80"}, {Address: "192.0.2.9:80"}}})
		synctest.Wait() // until the first answers are here
		var told []string
		stop := p.Follow(func(b BackendSnapshot) func() {
			p.SetHealth(b.Name, errDown) // may be called
			told = append(told, "+"+b.Name+"="+b.Resolved)
			return func() { told = append(told, "-"+b.Name) }
		})
		said := func(what, want string) {
			t.Helper()
			if slices.ContainsFunc(told[:max(0, len(told)-1)], func(s string) bool { return s[0] == '+' }) {
				t.Errorf("%s: what is new comes first: %q", what, told)
			}
			slices.Sort(told)
			got := strings.Join(told, " ")
			told = nil
			expect(t, what, got, want)
		}
		if len(told) == 0 {
			t.Error("nothing is told before Follow returns")
		}
		told = nil
		step(func() {})
		told = nil
		step(func() {})
		said("no change", "")
		step(func() { z.hosts["app.test"] = []string{"192.0.2.2", "192.0.2.3"} })
		said("the name moves", "+app/192.0.2.3:80=192.0.2.3:80 -app/192.0.2.1:80")
		p.Update([]Backend{{Name: "app", Address: "app.test:80", Weight: 9, Resolve: ResolveFirst}, {Address: "192.0.2.9:80", Weight: 3}})
		synctest.Wait()
		said("one of the addresses alone", "+app=192.0.2.2:80 -app/192.0.2.2:80 -app/192.0.2.3:80")
		p.SetHealth("app", nil)
		p.SetDrain("app", true)
		synctest.Wait()
		said("health", "")
		step(func() { z.hosts["app.test"] = []string{"192.0.2.3"} })
		said("another address", "+app=192.0.2.3:80 -app")
		stop()
		said("the end", "-192.0.2.9:80 -app")
		p.Update(backends(1))
		synctest.Wait()
		said("after the end", "")
	})
}
