package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// panicSignal makes a panicky daemon panic.
const panicSignal = syscall.SIGUSR2

// panicky lets LB-01 run a havip that has one more source file.
func panicky(s *stage) error {
	exe, err := buildPanicky()
	if err != nil {
		return err
	}
	p := &s.nodes[0].peer
	configure := p.configure
	p.configure = func(n *node, routers []virtualRouter, dir string) ([]string, error) {
		argv, err := configure(n, routers, dir)
		if err == nil {
			argv[0] = exe
		}
		return argv, err
	}
	return nil
}

// panicOnSignal is that file.
const panicOnSignal = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func init() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	go func() {
		<-c
		panic("on purpose")
	}()
}
`

var buildPanicky = sync.OnceValues(func() (string, error) {
	const pkg = "github.com/havip/havip/cmd/havip"
	dir, err := os.MkdirTemp("", "havip-e2e-")
	if err != nil {
		return "", err
	}
	where, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	file, overlay, exe := filepath.Join(dir, "panic.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "havip")
	replace, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(strings.TrimSpace(string(where)), "panic_on_signal.go"): file},
	})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(file, []byte(panicOnSignal), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", exe, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return exe, nil
})
