package lb

import (
	"fmt"
	"strings"
	"testing"
)

// TestHashesBesideNginx: which backend a key belongs to is another matter in nginx, but what is
// promised of it is the same: a key stays with its backend, all backends have some, and when one
// goes only its own keys move.
func TestHashesBesideNginx(t *testing.T) {
	const keys = 60
	names := []string{"a", "b", "c"}
	bs := make([]Backend, len(names))
	for i := range bs {
		bs[i] = webBackend(t, name(names[i]))
		bs[i].Name = names[i]
	}
	for _, tt := range []struct {
		name, nginx string
		balance     Balance
		key         string
		client      bool // the key is the client, who is always the same here
	}{
		{"a key", "hash $arg_id consistent;", KeyHash, "${arg_id}", false},
		{"the client", "ip_hash;", SourceHash, "", true},
	} {
		// asked returns which backend each key gets. down: b is.
		asked := func(address string) (got []string) {
			for id := range keys {
				answer := askRaw(t, address, fmt.Sprintf("GET /?id=%d HTTP/1.1\r\nHost: x\r\n\r\n", id))
				got = append(got, strings.TrimPrefix(answer, "200\n"))
			}
			return got
		}
		nginx := func(down string) string {
			block := "upstream app { " + tt.nginx
			for _, b := range bs {
				block += " server " + b.Address
				if b.Name == down {
					block += " down"
				}
				block += ";"
			}
			return besideNginx(t, block+" }\nserver { listen LISTEN; location / { proxy_pass http://app; } }")
		}
		pool := newPool(t, PoolConfig{Balance: tt.balance, Backends: bs})
		s := planeSite(t, HandlerConfig{Pool: pool, Rules: Rules{HashKey: tt.key}}, nil)
		ours := strings.TrimPrefix(s.url, "http://")
		before := map[string][]string{"nginx": asked(nginx("")), "havip": asked(ours)}
		gone := before["havip"][0] // which has the client, if that is the key
		if again := asked(ours); strings.Join(again, "") != strings.Join(before["havip"], "") {
			t.Errorf("%s: %q, and then %q", tt.name, before["havip"], again)
		}
		theirs := before["nginx"][0]
		after := map[string][]string{"nginx": asked(nginx(theirs))}
		pool.SetHealth(gone, errDown)
		after["havip"] = asked(ours)
		for who, down := range map[string]string{"nginx": theirs, "havip": gone} {
			seen := make(map[string]bool)
			for i, was := range before[who] {
				seen[was] = true
				if is := after[who][i]; is == down || is != was && was != down || len(is) != 1 {
					t.Errorf("%s, %s, key %d: %q after %q, %s is down", who, tt.name, i, is, was, down)
				}
			}
			if want := map[bool]int{true: 1, false: len(bs)}[tt.client]; len(seen) != want {
				t.Errorf("%s, %s: %d backends have keys, want %d", who, tt.name, len(seen), want)
			}
		}
	}
}
