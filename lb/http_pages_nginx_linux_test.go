package lb

import (
	"cmp"
	"strings"
	"testing"
)

// TestPagesBesideNginx: the real nginx answers what TestPages wants, but for the differences
// that the table gives reasons for.
func TestPagesBesideNginx(t *testing.T) {
	for _, tt := range pageCases {
		if tt.nginx == "" {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			dir := nginxDir(t)
			writeFile(t, dir, "sorry.html", "<p>sorry")
			b := closedBackend(t)
			if tt.backend != nil {
				b = webBackend(t, tt.backend)
			}
			address := besideNginx(t, strings.ReplaceAll(tt.nginx, "%s", dir), b)
			if got, want := askRaw(t, address, tt.request, pageFields...), cmp.Or(tt.differs, tt.want); got != want {
				t.Errorf("nginx: %q, want %q", got, want)
			}
			if (tt.differs == "") != (tt.why == "") {
				t.Error("want a reason for what differs")
			}
		})
	}
}
