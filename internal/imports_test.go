// Package internal_test checks what concerns the repository as a whole.
package internal_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/havip/havip/"

// forbidden are prefixes of import paths that no public package may reach, not
// even through another package: they belong to the binary.
var forbidden = []string{
	module + "internal/",
	module + "cmd/",
	"go.yaml.in/",
	"gopkg.in/yaml",
	"github.com/urfave/cli",
	"github.com/prometheus/",
	"github.com/spf13/",
}

// leaves of internal/ are open to the public packages: they reach nothing but the
// standard library and what belongs to it.
var leaves = []string{"internal/field", "internal/inet", "internal/memlan", "internal/process", "internal/proxyproto", "internal/quietlog", "internal/regular", "internal/retry", "internal/words"}

// allowed says which havip packages each public package may reach.
var allowed = map[string][]string{
	"vrrp":          nil,
	"vrrp/vrrptest": {"vrrp"},
	"vip":           nil,
	"vip/guard":     {"vip"},
	"vip/filter":    {"vip"},                      // its hook only
	"vip/failover":  {"vrrp", "vip", "vip/guard"}, // ties them together
	"healthcheck":   nil,
	"lb":            nil,
	"lb/nft":        {"lb"},
	"lb/ipvs":       {"lb"},

	"vip/internal/hook":   nil,
	"lb/internal/reactor": nil,
	"lb/internal/h1":      nil,
	"lb/internal/h2":      nil,
	"lb/internal/sni":     nil,
}

// TestPublicPackagesStandAlone: vrrp, vip, healthcheck and lb never import one
// another, nor YAML, metrics, CLI or anything internal but the leaves.
func TestPublicPackagesStandAlone(t *testing.T) {
	for _, pkg := range goList(t, "{{.ImportPath}}", "./...") {
		name := strings.TrimPrefix(pkg, module)
		if private(name) {
			continue
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table of import rules: add it there, and to CONTRIBUTING", name)
			continue
		}
		for _, dep := range deps(t, pkg) {
			if dep == pkg {
				continue
			}
			own, ok := strings.CutPrefix(dep, module)
			if slices.Contains(leaves, own) {
				continue
			}
			// What is internal to a package comes with it.
			public, _, _ := strings.Cut(own, "/internal/")
			if ok && public != name && !slices.Contains(may, public) {
				t.Errorf("%s imports %s: public packages meet through interfaces, in the daemon", name, own)
			}
			for _, f := range forbidden {
				if strings.HasPrefix(dep, f) {
					t.Errorf("%s imports %s: only the binary may", name, dep)
				}
			}
		}
	}
}

// TestNoNftables: a program that does without NoAccept has no nftables in it.
func TestNoNftables(t *testing.T) {
	for _, pkg := range []string{"vip", "vip/guard", "vip/failover"} {
		for _, dep := range deps(t, module+pkg) {
			if strings.HasPrefix(dep, "github.com/google/nftables") || dep == module+"vip/filter" {
				t.Errorf("%s imports %s: only vip/filter may", pkg, dep)
			}
		}
	}
}

// TestLeaves: what the public packages may reach under internal/ brings nothing
// else with it.
func TestLeaves(t *testing.T) {
	for _, leaf := range leaves {
		for _, dep := range deps(t, module+leaf) {
			if strings.Contains(strings.Split(dep, "/")[0], ".") && !strings.HasPrefix(dep, "golang.org/x/sys/") {
				t.Errorf("%s imports %s: a leaf needs the standard library and golang.org/x/sys only", leaf, dep)
			}
		}
	}
}

// TestCommandDoesNotLinkTesting: helpers of tests stay out of the binary, and their
// flags out of its command line.
func TestCommandDoesNotLinkTesting(t *testing.T) {
	for _, dep := range deps(t, module+"cmd/havip") {
		if dep == "testing" || strings.HasPrefix(dep, "testing/") || strings.HasSuffix(dep, "test") && strings.HasPrefix(dep, module) {
			t.Errorf("cmd/havip links %s: only tests may", dep)
		}
	}
}

// TestOnlyConfigImportsYAML: every other package gets validated structs.
func TestOnlyConfigImportsYAML(t *testing.T) {
	for _, line := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		f := strings.Fields(line)
		for _, imp := range f[1:] {
			if strings.HasPrefix(imp, "go.yaml.in/") && f[0] != module+"internal/config" {
				t.Errorf("%s imports %s: only internal/config may", f[0], imp)
			}
		}
	}
}

// TestOnlyAdminImportsPrometheus: what is counted is a plain value everywhere else.
func TestOnlyAdminImportsPrometheus(t *testing.T) {
	for _, line := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		f := strings.Fields(line)
		for _, imp := range f[1:] {
			if strings.HasPrefix(imp, "github.com/prometheus/") && f[0] != module+"internal/admin" {
				t.Errorf("%s imports %s: only internal/admin may", f[0], imp)
			}
		}
	}
}

// TestCommandIsThin: the command reaches the packages through internal/, and
// examples use what an embedder can use.
func TestCommandIsThin(t *testing.T) {
	for _, line := range goList(t, `{{.ImportPath}} {{join .Imports " "}}`, "./cmd/...", "./examples/...") {
		f := strings.Fields(line)
		name := strings.TrimPrefix(f[0], module)
		for _, imp := range f[1:] {
			own, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			internal := strings.HasPrefix(own, "internal/")
			if strings.HasPrefix(name, "cmd/") && !internal {
				t.Errorf("%s imports %s: cmd calls into internal/ only", name, own)
			}
			if strings.HasPrefix(name, "examples/") && internal {
				t.Errorf("%s imports %s: an example uses public packages only", name, own)
			}
		}
	}
}

// TestTopLevel: the first page that a visitor sees stays as designed.
func TestTopLevel(t *testing.T) {
	want := []string{"CONTRIBUTING.md", "LICENSE", "README.md", "cmd", "examples", "go.mod", "go.sum",
		"healthcheck", "internal", "lb", "vip", "vrrp"}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "havip" {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("top level is %v, want %v", got, want)
	}
}

func private(name string) bool {
	return strings.HasPrefix(name, "internal") || strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "examples/")
}

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	return goList(t, `{{join .Deps "\n"}}`, pkg)
}

func goList(t *testing.T, format string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", format}, args...)...)
	cmd.Dir = ".."
	// For Linux whatever the host is: that build has the most imports.
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}
