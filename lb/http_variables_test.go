package lb

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// request is what a client asks for.
type request struct {
	method, target, host string
	fields               []string // name, value, name, value
}

// text is the request in HTTP/1.1.
func (r request) text() string {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", cmp.Or(r.method, "GET"), r.target, cmp.Or(r.host, "web.test"))
	for i := 0; i < len(r.fields); i += 2 {
		head += r.fields[i] + ": " + r.fields[i+1] + "\r\n"
	}
	return head + "\r\n"
}

// send sends a request by whatever the front speaks, and returns the response and its content.
func (s *trapSite) send(t *testing.T, r request) (*http.Response, string) {
	t.Helper()
	r.method, r.host = cmp.Or(r.method, "GET"), cmp.Or(r.host, "web.test")
	if s.client == nil {
		return s.send1(t, r)
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, s.url+r.target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = r.host
	for i := 0; i < len(r.fields); i += 2 {
		req.Header[r.fields[i]] = append(req.Header[r.fields[i]], r.fields[i+1])
	}
	client := *s.client
	client.Timeout = bound
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	return res, body(t, res, err)
}

// send1 is send by HTTP/1.1, on a connection of its own.
func (s *trapSite) send1(t *testing.T, r request) (*http.Response, string) {
	t.Helper()
	c := s.dial()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	io.WriteString(c, r.text())
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: r.method})
	return res, body(t, res, err)
}

// variableCases say what variables are. nginx is the same in its words; empty: it has none.
// other is what nginx makes of it, where that differs.
var variableCases = []struct {
	name         string
	value, nginx string
	request      request
	want         string
	other        string
}{
	{"host in lower case, without port", "${host}", "$host", request{target: "/", host: "Web.TEST:8080"}, "web.test", ""},
	{"host with the dot of the root", "${host}", "$host", request{target: "/", host: "Web.TEST.:80"}, "web.test", ""},
	{"host of IPv6", "${host}", "$host", request{target: "/", host: "[2001:DB8::1]:80"}, "[2001:db8::1]", ""},
	{"host as it came", "${http_host}", "$http_host", request{target: "/", host: "Web.TEST:8080"}, "Web.TEST:8080", ""},
	{"method", "${method}", "$request_method", request{method: "OPTIONS", target: "/"}, "OPTIONS", ""},
	{"target", "${uri}", "$request_uri", request{target: "/a%2Fb/../c?d=%20&e"}, "/a%2Fb/../c?d=%20&e", ""},
	{"path, not decoded", "${path}", "$uri", request{target: "/a%2Fb?c"}, "/a%2Fb", "/a/b"},
	{"query", "${query}", "$args", request{target: "/a?b=c?d&e"}, "b=c?d&e", ""},
	{"no query", "[${query}]", "[$args]", request{target: "/a"}, "[]", ""},
	{"query with its mark", "/new${is_args}${query}", "/new$is_args$args", request{target: "/a?b=c?d"}, "/new?b=c?d", ""},
	{"no query, with its mark", "/new${is_args}${query}", "/new$is_args$args", request{target: "/a"}, "/new", ""},
	{"an empty query, with its mark", "/new${is_args}${query}", "/new$is_args$args", request{target: "/a?"}, "/new", ""},
	{"user who was not asked", "[${user}]", "", request{target: "/", fields: []string{"Authorization", basic("a", "b")}}, "[]", ""}, // nginx: $remote_user is a
	{"mixed with text", "<${method} $$host $ ${path}>$", "", request{target: "/a"}, "<GET $host $ /a>$", ""},

	{"argument", "${arg_b}", "$arg_b", request{target: "/?a=1&b=%32&b=3"}, "%32", ""},
	{"argument in another case", "${arg_B}", "$arg_B", request{target: "/?b=1"}, "1", ""},
	{"argument with =", "${arg_b}", "$arg_b", request{target: "/?b=c=d"}, "c=d", ""},
	{"no such argument", "[${arg_b}]", "[$arg_b]", request{target: "/?ab=1&b2=3&xb=4"}, "[]", ""},
	{"argument without a value", "[${arg_b}]", "[$arg_b]", request{target: "/?b"}, "[]", ""},
	{"argument behind one without a value", "[${arg_b}]", "[$arg_b]", request{target: "/?b&b=2"}, "[2]", ""},
	{"argument in the path", "[${arg_b}]", "[$arg_b]", request{target: "/b=1&b=2"}, "[]", ""},

	{"cookie", "${cookie_b}", "$cookie_b", request{target: "/", fields: []string{"Cookie", "a=1; b=2; c=3"}}, "2", ""},
	{"cookie in another case", "${cookie_b}", "$cookie_b", request{target: "/", fields: []string{"Cookie", "B=2"}}, "2", ""},
	{"cookie with = and quotes", "${cookie_b}", "$cookie_b", request{target: "/", fields: []string{"Cookie", `b="c=d"`}}, `"c=d"`, ""},
	{"first of two cookies", "${cookie_b}", "$cookie_b", request{target: "/", fields: []string{"Cookie", "b=1; b=2"}}, "1", ""},
	{"no such cookie", "[${cookie_b}]", "[$cookie_b]", request{target: "/", fields: []string{"Cookie", "ab=1; b2=2; xb"}}, "[]", ""},
	{"cookie of another header", "[${cookie_b}]", "[$cookie_b]", request{target: "/", fields: []string{"X-Cookie", "b=1"}}, "[]", ""},

	{"header", "${header_x_own}", "$http_x_own", request{target: "/", fields: []string{"X-Own", "1"}}, "1", ""},
	{"header in another case", "${header_X-OWN}", "$http_X_OWN", request{target: "/", fields: []string{"x-own", "1"}}, "1", ""},
	{"header on two lines", "${header_X-Own}", "", request{target: "/", fields: []string{"X-Own", "1", "X-Own", "2"}}, "1, 2", ""}, // nginx: by version
	{"cookies", "${header_cookie}", "$http_cookie", request{target: "/", fields: []string{"Cookie", "a=1", "Cookie", "b=2"}}, "a=1; b=2", ""},
	{"header that is dropped", "[${header_x_own}]", "[$http_x_own]", request{target: "/", fields: []string{"X_Own", "1"}}, "[]", ""},
	{"header of the same length", "[${header_x_own}]", "[$http_x_own]", request{target: "/", fields: []string{"X-Owm", "1"}}, "[]", ""},
	{"no such header", "[${header_x_own}]", "[$http_x_own]", request{target: "/"}, "[]", ""},
	{"host by another way", "${header_host}", "$http_host", request{target: "/", host: "Web.TEST:8080"}, "Web.TEST:8080", ""},
	{"header with a tab", "${header_x_own}", "$http_x_own", request{target: "/", fields: []string{"X-Own", "a\tb"}}, "a\tb", ""},
}

// TestVariables: on every way, variables say of a request what the client has sent, to backends
// and to the client.
func TestVariables(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			for _, tt := range variableCases {
				t.Run(tt.name, func(t *testing.T) {
					cfg := HandlerConfig{RequestHeaders: map[string]string{"X-Got": tt.value}, ResponseHeaders: map[string]string{"X-Got": tt.value}}
					s := front.serve(t, cfg, webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Got")) }))
					res, got := s.send(t, tt.request)
					if got != tt.want || res.Header.Get("X-Got") != tt.want {
						t.Errorf("backend %q, client %q; want %q", got, res.Header["X-Got"], tt.want)
					}
				})
			}
		})
	}
}

// TestVariablesOfConnections are those that depend on how the client has come.
func TestVariablesOfConnections(t *testing.T) {
	for _, front := range trapFronts() {
		t.Run(front.name, func(t *testing.T) {
			s := front.serve(t, HandlerConfig{RequestHeaders: map[string]string{"X-Got": "${scheme}://127.0.0.1:${server_port}"}},
				webBackend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Got")) }))
			if _, got := s.send(t, request{target: "/"}); got != s.url {
				t.Errorf("%q, want %q", got, s.url)
			}
		})
	}
}

// TestHostOfVariables: a Host with variables stays a host, whatever a client says.
func TestHostOfVariables(t *testing.T) {
	for _, tt := range []struct{ name, value, head, want string }{
		{"lower case, without port", "${host}", "GET / HTTP/1.1\r\nHost: Web.TEST:80\r\n\r\n", "web.test"},
		{"with a port", "${host}:${server_port}", "GET / HTTP/1.1\r\nHost: x:81\r\n\r\n", "x:80"},
		{"of an absolute target", "${http_host}", "GET http://Y:1/ HTTP/1.1\r\nHost: x\r\n\r\n", "Y:1"},
		{"none", "${host}", "GET / HTTP/1.0\r\n\r\n", "192.0.2.2"},
		{"none to take over", "${http_host}", "GET / HTTP/1.0\r\n\r\n", "192.0.2.2:80"},
		{"a port in the middle", "${http_host}.test", "GET / HTTP/1.1\r\nHost: x:81\r\n\r\n", "x:81"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := testExchange(t, HandlerConfig{RequestHeaders: map[string]string{"Host": tt.value}}, tt.head)
			if err := x.cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			if status := x.refusal(); status != 0 {
				t.Fatal(status)
			}
			if x.prepare(); x.host != tt.want {
				t.Errorf("%q, want %q", x.host, tt.want)
			}
		})
	}
}

// TestTemplates: what looks like a variable and is none is refused with those that there are,
// and nothing else is said of a value.
func TestTemplates(t *testing.T) {
	const choice = ": no such variable here: want ${client}, ${local}, ${host}, ${http_host} or ${server_port}"
	for value, want := range map[string]string{
		"": "", "$": "", "$ 5.$$": "", "$${host}": "", "$$host": "", "${host}": "", "}${host}{": "", "${host}:${server_port}": "",
		"secret ${hots}": `"${hots}"` + choice, "${": `"${"` + choice, "${host": `"${host"` + choice, "${}": `"${}"` + choice,
		"${backend}": `"${backend}"` + choice, "${arg_x}": `"${arg_x}"` + choice, "${ host}": `"${ host}"` + choice,
		"$host": `"$host": a variable of nginx: want ${host}`, "x$remote_addr:1": `"$remote_addr": a variable of nginx: want ${client}`,
		"${remote_addr}": `"${remote_addr}": a variable of nginx: want ${client}`, "$$$host": `"$host": a variable of nginx: want ${host}`,
		"$proxy_add_x_forwarded_for": `"$proxy_add_x_forwarded_for": a variable of nginx: leave the line out: backends get X-Forwarded-For anyway, with the client at its end`,
		"my pa$word":                 `"$" before a letter or digit: want $$ for a dollar sign, or one of ` + choice[len(": no such variable here: want "):],
		"$1":                         `"$" before a letter or digit: want $$ for a dollar sign, or one of ` + choice[len(": no such variable here: want "):],
		"$request_uri":               `"$" before a letter or digit: want $$ for a dollar sign, or one of ` + choice[len(": no such variable here: want "):], // not in a Host
	} {
		if _, err := compileTemplate(value, inHost); fmt.Sprint(err) != want && (err != nil || want != "") {
			t.Errorf("%q: %v, want %s", value, err, want)
		}
	}
	for value, valid := range map[string]bool{
		"${arg_a-b.c_D9}": true, "${cookie___Host-id}": true, "${header_x_y}": true,
		"${arg_}": false, "${arg_a b}": false, "${arg_NAME}": true, "${arg_a\n}": false, "${arg_ä}": false, "${header_x:}": false, "${arg_${arg_a}}": false,
		"$1": true, "$0": false, "$arg_a": false, "$http_x": false, "$cookie_a": false, "$request_uri": false, "$": true, "a$": true, "$-": true, "$$1": true, "$_": false,
	} {
		if _, err := compileTemplate(value, everywhere); (err == nil) != valid {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// TestVariablesOfNginx: each is refused by its name, with what there is here in its place, or
// the reason why the line is left out.
func TestVariablesOfNginx(t *testing.T) {
	const leftOut = ": leave the line out: "
	for name, want := range map[string]string{
		"request_uri": "${uri}", "uri": "${path}", "args": "${query}", "is_args": "${is_args}", "remote_user": "${user}", "query_string": "${query}", "host": "${host}", "http_host": "${http_host}",
		"remote_addr": "${client}", "scheme": "${scheme}", "request_method": "${method}", "request_id": "${request_id}", "server_port": "${server_port}",
		"arg_a": "${arg_a}", "cookie_a": "${cookie_a}", "http_x_own": "${header_x_own}", "ssl_client_s_dn": "${client_cert_subject}", "upstream_addr": "${backend}",
		"proxy_add_x_forwarded_for": leftOut, "http_upgrade": leftOut, "connection_upgrade": leftOut,
	} {
		for _, written := range []string{"$" + name, "${" + name + "}", "https://a/$" + name} {
			_, err := compileTemplate(written, inResponses)
			if valid := written == want || written == "${uri}" || written == "${is_args}"; valid != (err == nil) || !valid && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", written, err, want)
			}
		}
	}
	for name, same := range nginxVariables {
		if variableText(same, inResponses) == nil {
			t.Errorf("$%s: there is no %s", name, same)
		}
	}
	// All places where a value has variables are checked.
	pool := newPool(t, PoolConfig{})
	for name, cfg := range map[string]HandlerConfig{
		"RequestHeaders[X]":     {RequestHeaders: map[string]string{"X": "$host"}},
		"RequestHeaders[Host]":  {RequestHeaders: map[string]string{"Host": "$host"}},
		"ResponseHeaders[X]":    {ResponseHeaders: map[string]string{"X": "$host"}},
		"AddRequestHeaders[X]":  {Rules: Rules{AddRequestHeaders: alone(map[string]string{"X": "$host"})}},
		"AddResponseHeaders[X]": {Rules: Rules{AddResponseHeaders: alone(map[string]string{"X": "$host"})}},
		"Redirect.Location":     {Rules: Rules{Redirect: Redirect{Location: "https://$host/"}}},
		"Answer.Content":        {Rules: Rules{Answer: Answer{Status: 200, Content: "$host"}}},
		"HashKey":               {Rules: Rules{HashKey: "$host"}},
	} {
		cfg.Pool = pool
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name+`: "$host": a variable of nginx: want ${host}`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVariablesDoNotAllocate: the text of variables is in memory that an exchange keeps.
func TestVariablesDoNotAllocate(t *testing.T) {
	all := ""
	for _, name := range variableNames(inKeys) {
		all += strings.Replace(name, "NAME}", "v}", 1) + " "
	}
	pool := newPool(t, PoolConfig{Name: "web", Backends: []Backend{{Name: "app", Address: "192.0.2.3:80"}}})
	x := newUsualExchange(t, HandlerConfig{Pool: pool, RequestHeaders: map[string]string{"Host": "${host}:${server_port}", "X-All": all},
		ResponseHeaders: map[string]string{"X-All": all, "X-Two": "${cookie_session} ${backend} ${source}"},
		Rules:           Rules{Forwarded: true, Via: "lb", RequestID: RequestIDKeep, AddResponseHeaders: http.Header{"X-Three": {all}}}})
	if got := testing.AllocsPerRun(100, func() { x.serve(t) }); got > 0 {
		t.Errorf("%v allocations a request", got)
	}
	for _, want := range []string{"Host: www.example.org:80\r\n", " GET /static/app.css?v=3 /static/app.css v=3 ? 3 ", "\r\nX-Two: 0123456789abcdef app 192.0.2.2\r\n"} {
		x.exchange = exchange{}
		x.serve(t)
		got := string(x.appendRequest(nil, false, false)) + string(x.out)
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
