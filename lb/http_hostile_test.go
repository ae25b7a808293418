package lb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// ruleSet is a configuration in which clients have a say: what they send decides about routes,
// and stands in targets, headers, answers and keys.
type ruleSet struct {
	name  string
	build func(testing.TB) HandlerConfig
}

// echoes are what clients say, in one value.
const echoes = "${uri}|${path}|${query}|${http_host}|${host}|${method}|${header_X-A}|${cookie_a}|${arg_a}|${header_cookie}"

// jail is what all paths begin with that the rewriting rules of ruleSets let through.
const jail = "/in/"

// ruleSets are rules of all kinds. The first has none.
var ruleSets = []ruleSet{
	{"no rules", func(testing.TB) HandlerConfig { return HandlerConfig{} }},
	{"headers", func(testing.TB) HandlerConfig {
		return HandlerConfig{
			TrustedProxies:  localProxies,
			RequestHeaders:  map[string]string{"Host": "${http_host}", "X-Said": echoes, "X-A": "${header_x_a}${arg_a}", "Authorization": ""},
			ResponseHeaders: map[string]string{"X-Said": echoes, "X-Route": "${backend}"},
			Rules: Rules{
				AddRequestHeaders:  http.Header{"Link": {"<${uri}>; a=${header_x_a}"}, "Cookie": {"b=${cookie_a}"}},
				AddResponseHeaders: http.Header{"Set-Cookie": {"a=${arg_a}; Path=${path}"}, "Link": {"<${uri}>"}},
				Forwarded:          true, Via: "lb", HashKey: "${cookie_a}${header_x_a}${arg_a}",
			},
		}
	}},
	{"routes that rewrite", func(testing.TB) HandlerConfig {
		to := func(r Rewrite) HandlerConfig {
			return HandlerConfig{RequestHeaders: map[string]string{"X-Route": "${route} ${path}"}, Rules: Rules{Rewrite: r}}
		}
		return HandlerConfig{Rules: Rules{Rewrite: Rewrite{AddPrefix: "/in"}}, TrustedProxies: localProxies, Routes: []Route{
			{Name: "exact", Paths: []string{"= /a"}, HandlerConfig: to(Rewrite{Regexp: "(?s)^/(.*)$", Replacement: "/in/$1?from=$1"})},
			{Name: "host", Hosts: []string{"y", "*.y"}, HandlerConfig: to(Rewrite{Regexp: "(?s)^/(.*)$", Replacement: "/in/$1?a=$1&b"})},
			{Name: "strip", Paths: []string{"^~ /b"}, HandlerConfig: to(Rewrite{StripPrefix: "/b", AddPrefix: "/in/"})},
			{Name: "regexp", Paths: []string{"~* ^/(A|c)+[/%]", "~ [.?#]"}, Methods: []string{"GET", "POST"}, HandlerConfig: to(Rewrite{Regexp: "([^/]+)", Replacement: "/in/$1"})},
			{Name: "header", Headers: map[string]string{"X-A": "~ ^[12]"}, HandlerConfig: to(Rewrite{AddPrefix: "/in/header"})},
			{Name: "source", Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, HandlerConfig: to(Rewrite{AddPrefix: "/in/source/"})},
		}}
	}},
	{"redirects and answers", func(testing.TB) HandlerConfig {
		rules := func(r Rules) HandlerConfig { return HandlerConfig{Rules: r} }
		return HandlerConfig{ResponseHeaders: map[string]string{"X-Said": echoes}, Routes: []Route{
			{Name: "post", Methods: []string{"POST"}, HandlerConfig: rules(Rules{Redirect: Redirect{Location: "https://${http_host}${uri}", Status: 308}})},
			{Name: "group", Paths: []string{"~ ^/(.)(.*)$"}, HandlerConfig: rules(Rules{Redirect: Redirect{Location: "/${1}/${2}?${query}&a=${header_X-A}", Status: 301}})},
			{Name: "host", Hosts: []string{"y"}, HandlerConfig: rules(Rules{Answer: Answer{Status: 404, Content: echoes}})},
			{Name: "path", Methods: []string{"HEAD", "OPTIONS"}, HandlerConfig: rules(Rules{Redirect: Redirect{Location: "${path}"}, AddResponseHeaders: http.Header{"Link": {"<${uri}>"}}})},
		}}
	}},
	{"redirects of backends", func(testing.TB) HandlerConfig {
		return HandlerConfig{Rules: Rules{RewriteLocation: []LocationRewrite{
			{Prefix: "/${arg_a}", To: "/${header_X-A}"},
			{Prefix: "http://internal", To: "https://${http_host}"},
			{Prefix: "http://internal:80/", To: "/"},
			{Prefix: "http://", To: "https://"},
			{Regexp: "(?s)^https://([^/]*)/to/(.*)$", To: "https://$1.example.org/$2?${query}"},
			{Regexp: "(?s)^(https?://[^/]*)(.*)/$", To: "$2"},
			{Regexp: "(?s)^(.*)/b(.*)$", To: "${1}$2${cookie_a}"},
			{Prefix: "/", To: "https://www.example.org:${arg_b}"},
		}}}
	}},
	{"bodies and retries", func(t testing.TB) HandlerConfig {
		return HandlerConfig{MaxBody: 64, ResponseHeaders: map[string]string{"X-Backend": "${backend}"}, Rules: Rules{
			Buffering: BufferingOn, BufferMemory: 1 << 10, BufferFolder: t.TempDir(),
			RetryStatuses: []int{404, 500, 503}, RetryBudget: -1, RetryNonIdempotent: true, InterceptErrors: true,
			ErrorPages: []ErrorPage{{Statuses: []int{404, 502}, Page: Page{Content: []byte("page")}}},
			Compress:   &Compress{Encodings: []Encoding{EncodingGzip}, Types: []string{"*"}, MinLength: 1, Level: 1},
			Sticky:     &Sticky{Cookie: "a", Key: []byte("0123456789abcdef")}, MaxURI: 32,
		}}
	}},
	{"guards", func(t testing.TB) HandlerConfig {
		auth := &BasicAuth{Users: users(t, "sha:"+hashes["sha"]+"\n"), DropCredentials: true}
		return HandlerConfig{TrustedProxies: localProxies, Underscores: UnderscoresPass, Rules: Rules{
			Access:            []AccessRule{{From: netip.MustParsePrefix("192.0.2.0/24"), Deny: true}},
			RequestsPerClient: 1000, MaxURI: 32, Forwarded: true, Via: "lb", Sticky: &Sticky{Cookie: "a", Key: []byte("0123456789abcdef")},
		}, Routes: []Route{{Name: "users", Methods: []string{"POST", "OPTIONS", "HEAD"}, HandlerConfig: HandlerConfig{Rules: Rules{Auth: auth}}}}}
	}},
}

// escapesJail finds a step of a path that leads up, in whatever way it is written.
var escapesJail = regexp.MustCompile(`(?i)/(\.|%2e){2}(/|%2f|$)`)

// strictRequest returns what is wrong with the bytes of a request that a backend has got: it
// must be one request, to its last byte, for the strictest reader of RFC 9112. It shares no
// code with what has written the request.
func strictRequest(raw string) error {
	head, body, whole := strings.Cut(raw, "\r\n\r\n")
	if !whole {
		return errors.New("no end of the head")
	}
	lines := strings.Split(head, "\r\n")
	if !strictLine.MatchString(lines[0]) {
		return fmt.Errorf("request line %q", lines[0])
	}
	fields := make(map[string][]string)
	for _, line := range lines[1:] {
		m := strictField.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("field %q", line)
		}
		name := strings.ToLower(m[1])
		fields[name] = append(fields[name], m[2])
	}
	length, coding := fields["content-length"], fields["transfer-encoding"]
	switch {
	case len(fields["host"]) != 1 || !strictHost.MatchString(fields["host"][0]):
		return fmt.Errorf("Host %q", fields["host"])
	case len(length)+len(coding) > 1, len(length) == 1 && !strictNumber.MatchString(length[0]), len(coding) == 1 && coding[0] != "chunked":
		return fmt.Errorf("Content-Length %q, Transfer-Encoding %q", length, coding)
	case len(fields["trailer"]) > 0 && len(coding) == 0:
		return errors.New("trailer without chunks")
	}
	for _, name := range []string{"keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"} {
		if len(fields[name]) > 0 {
			return fmt.Errorf("%s: %q", name, fields[name])
		}
	}
	in := bufio.NewReader(strings.NewReader(raw))
	req, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return fmt.Errorf("body %q: %w", body, err)
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		return fmt.Errorf("%q behind it", rest)
	}
	return nil
}

// What the lines of strict messages look like: RFC 9110 §5.5 and §5.6.2, RFC 9112 §3, and RFC
// 3986 but for characters that clients send in targets though they should be encoded.
var (
	strictLine   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+ (/([^\\x00-\\x20\\x7f#?%]|%[0-9A-Fa-f]{2})*(\\?[^\\x00-\\x20\\x7f#]*)?|\\*) HTTP/1\\.1$")
	strictField  = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)$")
	strictHost   = regexp.MustCompile(`^([\w.~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.%\w~-]+\])(:\d*)?$`)
	strictNumber = regexp.MustCompile(`^\d{1,19}$`)
)

// strictFields returns what is wrong with the head of an answer that was made here.
func strictFields(head string) error {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n"), "\r\n")
	for _, line := range lines {
		if line != "" && !strictField.MatchString(line) {
			return fmt.Errorf("field %q", line)
		}
	}
	return nil
}

// TestStrictRequest: the reader takes what is in order, and nothing else.
func TestStrictRequest(t *testing.T) {
	for raw, want := range map[string]bool{
		"GET /a%2F|?b%z HTTP/1.1\r\nHost: x:80\r\n\r\n":                                                       true,
		"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nX-A: \xff\t\r\n\r\n":                                            true,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":                                          true,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n0\r\nX-A: 1\r\n\r\n": true,
		"GET / HTTP/1.1\r\nHost: x\r\n":                                                                       false,
		"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n":                                                                false,
		"GET /%z HTTP/1.1\r\nHost: x\r\n\r\n":                                                                 false,
		"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n":                                                                 false,
		"GET a HTTP/1.1\r\nHost: x\r\n\r\n":                                                                   false,
		"GET / HTTP/1.0\r\nHost: x\r\n\r\n":                                                                   false,
		"GET / HTTP/1.1\r\n\r\n":                                                                              false,
		"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n":                                                        false,
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n":                                                                 false,
		"GET / HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n":                                                        false,
		"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\n2\r\n\r\n":                                                      false,
		"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\x00\r\n\r\n":                                                     false,
		"GET / HTTP/1.1\r\nHost: x\r\nKeep-Alive: 1\r\n\r\n":                                                  false,
		"GET / HTTP/1.1\r\nHost: x\r\nTrailer: a\r\n\r\n":                                                     false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc":                                         false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":      false,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n":                               false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab":                                           false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcd":                                         false,
	} {
		if err := strictRequest(raw); (err == nil) != want {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
