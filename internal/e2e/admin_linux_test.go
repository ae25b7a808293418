package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// TestSocketOfAnOrdinaryUser: a havip that may not make the folder of its socket says once,
// at Info, what to do, and does its work; one whose file names the socket says so as a
// warning.
func TestSocketOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	lab.NeedRoot(t)
	lab.Need(t, "setpriv")
	exe := havip(t)
	for name, c := range map[string]struct{ admin, level string }{
		"the default":           {"state: off", "INFO"},
		"that which is in file": {"state: off, socket: SOCKET", "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "havip") // where others may read, and root alone write
			if err == nil {
				err = os.Chmod(dir, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			socket, file := filepath.Join(dir, "run", "havip.sock"), filepath.Join(dir, "havip.yaml")
			text := fmt.Sprintf("admin: {%s}\nservices: [{name: web, listen: \":8080\", backends: [\"192.168.31.242:80\"]}]\n", strings.ReplaceAll(c.admin, "SOCKET", socket))
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(dir, "havip")
			program, err := os.ReadFile(exe)
			if err == nil {
				err = os.WriteFile(binary, program, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			h := lab.New(t).MustHost("lb01", "192.168.31.240/24")
			cmd := h.Command("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups", "--", binary, "run", "-c", file)
			cmd.Env = []string{"HAVIP_SOCKET=" + socket}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Kill()
			lab.Until(t, 30*time.Second, "it serves, and says what to do", func() bool {
				return strings.Contains(cmd.Output(), "msg=serving") && strings.Contains(cmd.Output(), "cannot listen")
			})
			for line := range strings.Lines(cmd.Output()) {
				if strings.Contains(line, "cannot listen") && (!strings.Contains(line, "level="+c.level) || !strings.Contains(line, "make the folder as root and give it to this user")) {
					t.Error(line)
				}
			}
			if n := strings.Count(cmd.Output(), "cannot listen"); n != 1 {
				t.Errorf("said %d times\n%s", n, cmd.Output())
			}
		})
	}
}
