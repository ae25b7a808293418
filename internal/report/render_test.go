package report

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// golden compares text with a file of testdata, or writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s: another text (-want +got), see -update:\n%s", file, diff)
	}
}

// TestStatusText shows nodes that are well, and nodes that are not, on screens of
// several widths. No line is wider than its screen.
func TestStatusText(t *testing.T) {
	for name, s := range map[string]*Status{"healthy": healthy(), "troubled": troubled(), "maintenance": maintained(), "large": large(1000), "empty": {Node: healthy().Node}} {
		for _, width := range []int{0, 120, 80, 60} {
			t.Run(fmt.Sprintf("%s-%d", name, width), func(t *testing.T) {
				text := RenderStatus(s, false, Layout{Width: width})
				for line := range strings.Lines(text) {
					line = strings.TrimSuffix(line, "\n")
					if columns(line) > width && width > 0 || strings.HasSuffix(line, " ") {
						t.Errorf("%d columns of %d, or blanks at the end: %q", columns(line), width, line)
					}
				}
				if width != 60 {
					golden(t, fmt.Sprintf("status-%s-%d", name, width), text)
				}
			})
		}
	}
}

// TestStatusOfServiceMaintenance: a service that answers with 503 does not look like others.
func TestStatusOfServiceMaintenance(t *testing.T) {
	s := healthy()
	s.Services[0].Maintenance = true
	if text := RenderStatus(s, false, Layout{Width: 120}); !strings.Contains(text, "* maintenance: requests get 503") {
		t.Errorf("no word of it in\n%s", text)
	}
}

// TestStatusOfLeaver: a router that has announced its end is Active, but for a moment only.
func TestStatusOfLeaver(t *testing.T) {
	s := healthy()
	s.Routers[0].HandingOver = true
	if text := RenderStatus(s, false, Layout{Width: 120}); !strings.Contains(text, "leaving") {
		t.Errorf("no word of it in\n%s", text)
	}
}
