package lb

import (
	"strings"
	"testing"

	"github.com/havip/havip/lb/internal/h1"
)

// accepting returns the fields of a request that has Accept-Encoding with these values.
func accepting(values ...string) (fields []h1.Field) {
	for _, v := range values {
		fields = append(fields, h1.Field{Name: "accept-encoding", Value: v})
	}
	return fields
}

// TestAcceptEncoding: clients get the coding that they like best (RFC 9110 §12.5.3), of those
// that they like as well the first of ours, and none that they do not accept.
func TestAcceptEncoding(t *testing.T) {
	both := []Encoding{EncodingZstd, EncodingGzip}
	for _, tt := range []struct {
		name, accepted string // "|" separates fields
		ours           []Encoding
		want           string // "": none
	}{
		{"no field", "none", both, ""},
		{"empty", "", both, ""},
		{"gzip", "gzip", both, "gzip"},
		{"a browser", "gzip, deflate, br, zstd", both, "zstd"},
		{"our order counts", "zstd, gzip", []Encoding{EncodingGzip, EncodingZstd}, "gzip"},
		{"weights count more", "gzip;q=1.0, zstd;q=0.9", both, "gzip"},
		{"thousandths", "gzip;q=0.502, zstd;q=0.501", both, "gzip"},
		{"case and space", "\tGZip ; Q=0.5 ", both, "gzip"},
		{"several fields", "br|deflate|gzip", both, "gzip"},
		{"old name", "x-gzip", both, "gzip"},
		{"only others", "br, deflate, compress", both, ""},
		{"refused", "gzip;q=0", both, ""},
		{"refused with decimals", "gzip;q=0.000", both, ""},
		{"one refused", "zstd;q=0, gzip", both, "gzip"},
		{"not ours", "gzip", []Encoding{EncodingZstd}, ""},
		{"any", "*", both, "gzip"},
		{"any, and few know zstd", "*", []Encoding{EncodingZstd}, ""},
		{"any other", "gzip;q=0, *", both, ""},
		{"none other", "zstd, *;q=0", both, "zstd"},
		{"any, with less weight", "*;q=0.5, zstd;q=0.2", both, "gzip"},
		{"identity is liked better", "gzip;q=0.5, identity", both, ""},
		{"identity by any is liked better", "gzip;q=0.5, *", both, ""},
		{"identity is liked as well", "gzip, identity", both, "gzip"},
		{"identity is refused", "identity;q=0, gzip;q=0.1", both, "gzip"},
		{"identity is refused, and all else", "identity;q=0, *;q=0", both, ""},
		{"twice", "gzip, gzip;q=0", both, ""},
		{"weight beyond 1", "gzip;q=1.001", both, ""},
		{"weight of 2", "gzip;q=2", both, ""},
		{"weight of four digits", "gzip;q=0.0001", both, ""},
		{"weight without a point", "gzip;q=01", both, ""},
		{"weight without digits", "gzip;q=", both, ""},
		{"negative weight", "gzip;q=-1", both, ""},
		{"weight with space", "gzip;q = 1", both, ""},
		{"other parameter", "gzip;level=1", both, ""},
		{"parameter after the weight", "gzip;q=1;x=y", both, ""},
		{"empty members", ",,gzip,", both, "gzip"},
		{"prefix of a name", "gzipped, zst", both, ""},
	} {
		fields := accepting(strings.Split(tt.accepted, "|")...)
		if tt.accepted == "none" {
			fields = []h1.Field{{Name: "Accept", Value: "gzip"}}
		}
		got := ""
		if e, ok := readAcceptance(fields).choose(tt.ours); ok {
			got = e.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q gets %q, want %q", tt.name, tt.accepted, got, tt.want)
		}
	}
}

// FuzzAcceptEncoding: whatever a client says, it gets no coding whose name it has not written,
// but for "*", and none that it refuses.
func FuzzAcceptEncoding(f *testing.F) {
	for _, value := range []string{"", "gzip, deflate, br, zstd", "gzip;q=0.5, *;q=0", "identity;q=0", "*", "x-gzip;q=1.000", "gzip;q=1;q=0", ",;=,gzip ;q=0.1"} {
		f.Add(value, "gzip;q=0")
	}
	f.Fuzz(func(t *testing.T, value, more string) {
		e, ok := readAcceptance(accepting(value)).choose([]Encoding{EncodingZstd, EncodingGzip})
		named := strings.Contains(strings.ToLower(value), e.String()) || e == EncodingGzip && strings.Contains(value, "*")
		if ok && !named {
			t.Errorf("%q: %v", value, e)
		}
		if refused := strings.TrimSpace(more) == e.String()+";q=0"; refused {
			if again, ok := readAcceptance(accepting(value, more)).choose([]Encoding{e}); ok {
				t.Errorf("%q and %q: %v", value, more, again)
			}
		}
		if got := parseWeight(value); got < 0 || got > 1000 {
			t.Errorf("%q: %d", value, got)
		}
	})
}
