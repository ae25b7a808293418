package lb

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var mutations = flag.Int("lb.mutations", 150, "how many random conversations TestLoopsAndHandlerAgree compares")

// conversations are what clients say, and backends: the seeds of random ones.
var conversations = []struct{ name, client, backend string }{
	{"the least", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", anOK},
	{"a pipeline", aGet + "HEAD /b HTTP/1.1\r\nHost: y\r\n\r\n" + aLastGet + aGet, anOK},
	{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", anOK},
	{"HTTP/1.0 that is kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + aLastGet, anOK},
	{"HTTP/1.0 and a body without length", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + aLastGet, "HTTP/1.1 200 OK\r\n\r\nuntil the end"},
	{"a length", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + aLastGet, anOK},
	{"a body that is cut", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc", anOK},
	{"chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n" + aLastGet, anOK},
	{"chunks that are none", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n" + aLastGet, anOK},
	{"chunks and length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + aLastGet, anOK},
	{"chunks of HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", anOK},
	{"a trailer", "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-A, Host\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\r\nX-B: 2\r\nHost: z\r\n\r\n" + aLastGet, anOK},
	{"the same length twice", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", anOK},
	{"LF", "GET / HTTP/1.1\nHost: x\n\n", anOK},
	{"folded lines", "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n 2\r\n\r\n", anOK},
	{"empty lines", "\r\n\r\n" + aGet + "\r\n" + aLastGet, anOK},
	{"a head that is cut", aGet + "GET / HTTP/1.1\r\nHos", anOK},
	{"an absolute target", "GET http://y:80/a%2F?b HTTP/1.1\r\nHost: x\r\n\r\n", anOK},
	{"an absolute target and what is no Host", "GET http://y/ HTTP/1.1\r\nHost: a b\r\n\r\n", anOK},
	{"odd targets", "GET /a%2Fb|c?%zz HTTP/1.1\r\nHost: x\r\n\r\nGET //a/../b HTTP/1.1\r\nHost: x\r\n\r\nGET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", anOK},
	{"no target", "GET foo HTTP/1.1\r\nHost: x\r\n\r\n", anOK},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", anOK},
	{"the end of forwards", "TRACE /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nCookie: c\r\n\r\nOPTIONS /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: 7\r\n\r\n", anOK},
	{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + aGet, anOK},
	{"hop by hop", "GET / HTTP/1.1\r\nHost: x\r\nConnection: X-A, X-Forwarded-For, close\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: 1\r\nTE: trailers\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n", anOK},
	{"names that fold", "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: y\r\nX-A: 1\r\nx-a: 2\r\nCookie: a\r\nCookie: b\r\n\r\n", anOK},
	{"an upgrade", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe", "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"},
	{"an upgrade that is refused", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n" + aLastGet, anOK},
	{"a switch that nobody has asked for", aGet, "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", anOK},
	{"a bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", anOK},

	{"hints", aGet + aLastGet, "HTTP/1.1 103 Hints\r\nLink: x\r\nConnection: y\r\nY: 1\r\nContent-Length: 5\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + anOK},
	{"chunks of a backend", aGet + aLastGet, "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 7\r\n\r\n"},
	{"chunks of a backend for HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	{"chunks of a backend that are cut", aGet + aLastGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"},
	{"chunks of a backend that are none", aGet + aLastGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"},
	{"a body that is shorter than its length", aGet + aLastGet, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"},
	{"a body that is longer than its length", aGet + aLastGet, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok"},
	{"204 with a length", aGet + aLastGet, "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n"},
	{"304 with a length", aGet + aLastGet, "HTTP/1.1 304 No\r\nContent-Length: 5\r\nContent-Type: x\r\n\r\n"},
	{"HEAD", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + aLastGet, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
	{"HEAD with chunks", "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + aLastGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"426", aGet + aLastGet, "HTTP/1.1 426 No\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n"},
	{"HTTP/1.0 of a backend", aGet + aLastGet, "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end"},
	{"no response", aGet + aLastGet, ""},
	{"no HTTP", aGet + aLastGet, "SSH-2.0-OpenSSH\r\n\r\n"},
	{"a response that is cut", aGet + aLastGet, "HTTP/1.1 200 OK\r\nContent-Le"},
	{"two lengths of a backend", aGet + aLastGet, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"},
	{"a redirect of a backend", "GET /?a=b&b=.evil.test HTTP/1.1\r\nHost: x\r\nX-A: /evil.test\r\nCookie: a=https://evil.test\r\n\r\n" + aLastGet,
		"HTTP/1.1 302 To\r\nLocation: /b/c\r\nRefresh: 0;URL=\"/b\"\r\nContent-Length: 0\r\n\r\n"},
	{"a redirect to a backend", aGet + aLastGet, "HTTP/1.1 201 To\r\nlocation: http://internal:80/\t/evil.test\r\nLocation: http://internal.evil.test/\r\nLocation: https://a/to/b\r\nContent-Length: 0\r\n\r\n"},
	{"a redirect of a backend, and a port that ends none", "GET /?a=q&b=@evil.test HTTP/1.1\r\nHost: x\r\n\r\n" + aLastGet, "HTTP/1.1 302 To\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"},
	{"a redirect of a backend, of many slashes", aGet + aLastGet, "HTTP/1.1 302 To\r\nLocation: http://internal:80//\\evil.test/b\r\nRefresh: 1; url=https://x//\r\nContent-Length: 0\r\n\r\n"},
	{"odd fields of a backend", aGet + aLastGet, "HTTP/1.1 299 \xe4\r\nConnection: X-A\r\nX-A: 1\r\nx_b: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\nKeep-Alive: 3\r\nDate: x\r\nContent-Length: 2\r\n\r\nok"},
}

// TestLoopsAndHandlerAgree: what the event loops make of a client and of a backend is what a
// Handler behind net/http makes of them, or a refusal of what could be meant otherwise. The
// conversations come first, and then mixtures of them with errors.
func TestLoopsAndHandlerAgree(t *testing.T) {
	onlyNetHTTP(t, "which the event loops are compared with")
	for _, rules := range ruleSets {
		t.Run(rules.name, func(t *testing.T) {
			b := serveBoth(t, rules)
			for _, c := range conversations {
				t.Run(c.name, func(t *testing.T) { b.compare(t, []byte(c.client), []byte(c.backend)) })
			}
			for _, head := range hostileHeads {
				t.Run(head, func(t *testing.T) { b.compare(t, []byte(head+aLastGet), []byte(anOK)) })
			}
			seed := uint64(time.Now().UnixNano())
			r := rand.New(rand.NewPCG(seed, 0))
			served := 0
			t.Run(fmt.Sprintf("mixtures of seed %d", seed), func(t *testing.T) {
				for range *mutations {
					b.piece = []int{0, 8 << r.IntN(5)}[r.IntN(2)]
					served += b.compare(t, mixed(r, true), mixed(r, false))
				}
			})
			if served < *mutations/4 {
				t.Errorf("%d conversations have had %d requests", *mutations, served)
			}
		})
	}
}

// FuzzLoopsAndHandler is TestLoopsAndHandlerAgree for any bytes, and one of the ruleSets.
func FuzzLoopsAndHandler(f *testing.F) {
	var served []*both
	for i, rules := range ruleSets {
		served = append(served, serveBoth(f, rules))
		for _, c := range conversations {
			f.Add(byte(i), []byte(c.client), []byte(c.backend))
		}
		for _, head := range hostileHeads {
			f.Add(byte(i), []byte(head+aLastGet), []byte(anOK))
		}
	}
	// A request that is refused for its Host, with a NUL in its trailer: nothing may follow.
	f.Add(byte(0), []byte("POST / HTTP/1.1\r\nHost: a b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\x00\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("HTTP/1.1 204 No Content\r\n\r\n"))
	f.Fuzz(func(t *testing.T, rules byte, client, backend []byte) {
		if len(client)+len(backend) > 4<<10 || strings.Contains(strings.ToLower(string(client)), "100-continue") {
			return // a wait for 100 takes its time
		}
		served[int(rules)%len(served)].compare(t, client, backend)
	})
}

// Lines and bytes that errors are made of.
var (
	clientLines = []string{
		"Content-Length: 3", "Content-Length: 0", "Content-Length: +3", "Transfer-Encoding: chunked", "Transfer-Encoding: identity",
		"Transfer-Encoding:\tCHUNKED", "Connection: close", "Connection: keep-alive", "Connection: X-A, TE", "TE: trailers", "Host: y", "Host:", "X-A: 1",
		"X-a:2", "A:\t \xff ", "X_A: 1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: x", "Forwarded: for=y", "Trailer: X-A", "Upgrade: x", "Cookie: a=b",
		"Max-Forwards: 1", "Authorization: NTLM x", "Authorization: Basic c2hhOnNlY3JldA==", " folded", "Content-Length : 3", "Content_Length: 3", "Range: bytes=0-", "Pragma: no-cache", "",
	}
	backendLines = []string{
		"Content-Length: 2", "Content-Length: 0", "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Connection: X-A", "X-A: 1",
		"Trailer: X-A", "Upgrade: x", "Set-Cookie: a", "set-cookie: b", "Date: x", "Server: y", "Content-Type: text/html", "Keep-Alive: x", "X_B: 1",
		"WWW-Authenticate: Negotiate", "Location: /", "Location: http://internal//x", "Location: https://a/to/@b", "Refresh: 1;url=/", "Vary: *", " folded", "X\x00: 1", "",
	}
	oddBytes = []string{"\r", "\n", "\r\n", "\x00", " ", "\t", ":", ",", ";", "0", "3", "\x7f", "\xff", "%", "/", "#", "\"", "HTTP/1.0", "HEAD "}
)

// mixed returns a conversation's one side with errors in it, or without.
func mixed(r *rand.Rand, client bool) []byte {
	pick := func() string {
		c := conversations[r.IntN(len(conversations))]
		if client {
			return c.client
		}
		return c.backend
	}
	text := pick()
	if client && r.IntN(3) == 0 {
		text += pick()
	}
	extra := backendLines
	if client {
		extra = clientLines
	}
	for range r.IntN(4) {
		lines := strings.SplitAfter(text, "\n")
		at := r.IntN(len(lines))
		switch r.IntN(6) {
		case 0, 1, 2: // another line, most often of a header
			lines = slices.Insert(lines, at, extra[r.IntN(len(extra))]+"\r\n")
		case 3:
			lines = slices.Delete(lines, at, at+1)
		case 4:
			lines = slices.Insert(lines, at, lines[r.IntN(len(lines))])
		case 5:
			odd, in := oddBytes[r.IntN(len(oddBytes))], r.IntN(len(lines[at])+1)
			lines[at] = lines[at][:in] + odd + lines[at][min(in+r.IntN(2), len(lines[at])):]
		}
		text = strings.Join(lines, "")
	}
	return []byte(text)
}
