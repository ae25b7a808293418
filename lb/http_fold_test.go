package lb

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/havip/havip/internal/lab/labtest"
)

// fieldsOf returns the names in the head and in the trailer of a recorded request, without
// those that every request gets.
func fieldsOf(request string) (names []string) {
	for line := range strings.SplitSeq(request, "\r\n") {
		name, _, ok := strings.Cut(line, ": ")
		switch name {
		case "Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Transfer-Encoding", "Trailer":
		default:
			if ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// WSGI, CGI and PHP take X_Real_IP, and some X.Real.IP, for X-Real-IP. Whatever the setting
// says, no such name gets past the headers that are decided here, in header and trailer.
func TestNamesThatFold(t *testing.T) {
	ours := []string{
		"X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for", "X.Forwarded.For", "X-Forwarded.For", "X!Forwarded~For",
		"X_Forwarded_Proto", "X_Forwarded_Host", "X_Forwarded_Port", "X_Real_IP", "X_Real-IP", "x.real.ip",
		"Content_Length", "Content.Length", "Transfer_Encoding", "Transfer+Encoding", "Keep_Alive", "Proxy_Connection", "HTTP2_Settings",
		"Proxy_Authorization", "Max_Forwards", "X_Ours", "X.Ours", "X_Removed", "LB-IP", "LB.IP", "lb_ip",
	}
	rest := []string{"X_other", "X.other", "Api_key", "X-A'b"}
	plain := []string{"X-Plain", "Accept", "X9"}
	for _, tt := range []struct {
		setting Underscores
		want    []string
	}{
		{UnderscoresDrop, plain},
		{UnderscoresPass, slices.Concat(plain, rest)},
	} {
		t.Run(tt.setting.String(), func(t *testing.T) {
			rec, b := record(t)
			s, _ := front(t, HandlerConfig{Underscores: tt.setting, MaxFields: 1000,
				RequestHeaders: map[string]string{"X-Ours": "1", "X-Removed": "", "LB_IP": "2"}}, b)
			h2, _ := front2(t, HandlerConfig{Underscores: tt.setting, RequestHeaders: map[string]string{"X-Ours": "1", "X-Removed": "", "LB_IP": "2"}}, b)
			want := slices.Concat(tt.want, []string{"X-Ours", "LB_IP"})
			slices.Sort(want)
			all := slices.Concat(ours, rest, plain)
			var header strings.Builder
			fields := []string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/"}
			for _, name := range all {
				fmt.Fprintf(&header, "%s: evil\r\n", name)
				fields = append(fields, strings.ToLower(name), "evil")
			}
			rawStatus(t, s, "GET / HTTP/1.1\r\nHost: x\r\n"+header.String()+"\r\n")
			askHTTP2(t, h2, fields...)
			requests := rec.Requests()
			if len(requests) != 2 {
				t.Fatalf("the backend got %q", requests)
			}
			for _, r := range requests {
				got := fieldsOf(r)
				slices.Sort(got)
				if !slices.Equal(got, want) || !strings.Contains(r, "X-Ours: 1\r\n") || !strings.Contains(r, "LB_IP: 2\r\n") {
					t.Errorf("the backend got %q, want %q", got, want)
				}
			}
			rawStatus(t, s, "POST / HTTP/1.1\r\nHost: x\r\nTrailer: "+strings.Join(all, ", ")+"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+header.String()+"\r\n")
			requests = rec.Requests()
			if len(requests) != 1 {
				t.Fatalf("the backend got %q", requests)
			}
			_, trailer, _ := strings.Cut(requests[0], "\r\n\r\n")
			got := fieldsOf(trailer)
			slices.Sort(got)
			want = slices.Sorted(slices.Values(tt.want))
			if !slices.Equal(got, want) {
				t.Errorf("the backend got the trailer %q, want %q", got, want)
			}
		})
	}
}

// What a proxy that is trusted says by another name does not count either.
func TestNamesThatFoldOfTrustedProxy(t *testing.T) {
	rec, b := record(t)
	s, _ := front(t, HandlerConfig{Underscores: UnderscoresPass, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, b)
	rawStatus(t, s, "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_Host: evil\r\nX_Forwarded_For: evil\r\nX-Forwarded-Host: y\r\nForwarded: for=192.0.2.1\r\n\r\n")
	if got := fmt.Sprint(rec.Requests()); strings.Contains(got, "evil") || !strings.Contains(strings.ToLower(got), "x-forwarded-host: y\r\n") || !strings.Contains(got, "Forwarded: for") {
		t.Errorf("the backend got %q", got)
	}
}

// A name does not get by the list of what may not stand in a trailer, of a response either.
func TestTrailerNamesThatFold(t *testing.T) {
	ours := compileFields(alone(map[string]string{"LB_IP": "1"}), inRequests)
	for name, valid := range map[string]bool{
		"X-Sum": true, "X_sum": true, "Grpc-Status": true, "Content_type": false, "Set.cookie": false, "If_match": false,
		"X_forwarded_for": false, "Transfer_encoding": false, "Lb-Ip": false, "Lb.ip": false,
	} {
		if ours.allowsTrailer(name) != valid {
			t.Errorf("%s: %v, want %v", name, !valid, valid)
		}
	}
}

// Who looks for a header finds in the log that it was dropped.
func TestDroppedNamesAreLogged(t *testing.T) {
	var out labtest.Log
	_, b := record(t)
	s, _ := front(t, HandlerConfig{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}, b)
	rawStatus(t, s, "GET / HTTP/1.1\r\nHost: x\r\nX-Plain: 1\r\n\r\n")
	rawStatus(t, s, "GET / HTTP/1.1\r\nHost: x\r\napi_key: secret\r\n\r\n")
	waitFor(t, "the line", func() bool { return strings.Contains(strings.ToLower(out.String()), "names=[api_key]") })
	if got := out.String(); out.Count("dropped for their names") != 1 || strings.Contains(got, "secret") {
		t.Errorf("the log says:\n%s", got)
	}
}
