package lb

import (
	"net/http"
	"testing"
)

// TestCompressBesideNginx: nginx is asked the same as our fronts in TestCompress, and answers as
// they do, but for what the cases give a reason for.
func TestCompressBesideNginx(t *testing.T) {
	address := besideNginx(t, `gzip on; gzip_vary on; gzip_proxied any; gzip_min_length 1024;
		location / { gzip_types text/plain; proxy_http_version 1.1; proxy_pass http://backends; }`, rawBackend(t, answerCompressCase))
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	for n, tt := range compressCases {
		want := tt.nginx
		if want == "" {
			want = tt.want
		}
		if got := askCase(t, &http.Client{Transport: tr}, "http://"+address, n); got != want {
			t.Errorf("%s: nginx: %q, want %q", tt.name, got, want)
		}
		if (tt.nginx == "") != (tt.why == "") {
			t.Errorf("%s: a difference and no reason, or a reason for none", tt.name)
		}
	}
}
