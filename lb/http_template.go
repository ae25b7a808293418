package lb

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/havip/havip/internal/words"
)

// template is a value with variables, as it is needed for requests. The zero value is empty.
type template []piece

// piece is a part of a value: a text, or a variable.
type piece struct {
	literal string
	text    textFunc // nil: literal
	group   int      // of a regular expression, which the variable is; 0: it is another
}

// variablePattern finds what looks like a variable, here or in nginx, and a dollar sign that is
// written as two.
var variablePattern = regexp.MustCompile(`\$\$|\$\{[^}]*\}?|\$[1-9]|\$[A-Za-z0-9_]+`)

// compileTemplate cuts a value at its variables. The error names one that there is not, and
// those that there are; it says nothing else of the value, which may be a password.
func compileTemplate(value string, in parts) (t template, err error) {
	literal := ""
	for rest := value; rest != ""; {
		at := variablePattern.FindStringIndex(rest)
		if at == nil {
			literal += rest
			break
		}
		literal += rest[:at[0]]
		written := rest[at[0]:at[1]]
		rest = rest[at[1]:]
		if written == "$$" {
			literal += "$"
			continue
		}
		p, err := compileVariable(written, in)
		if err != nil {
			return nil, err
		}
		if literal != "" {
			t, literal = append(t, piece{literal: literal}), ""
		}
		t = append(t, p)
	}
	if literal != "" {
		t = append(t, piece{literal: literal})
	}
	return t, nil
}

// compileVariable returns the variable that is written in a value.
func compileVariable(written string, in parts) (piece, error) {
	if len(written) == len("$1") && in&inAnswers != 0 && groupPattern.MatchString("${"+written[1:]+"}") {
		written = "${" + written[1:] + "}" // $1, as nginx has it
	}
	if text := variableText(written, in); text != nil && strings.HasPrefix(written, "${") {
		p := piece{text: text}
		if groupPattern.MatchString(written) {
			p.group = int(written[2] - '0')
		}
		return p, nil
	}
	name := strings.Trim(written, "${}")
	if strings.HasPrefix(written, "${") != strings.HasSuffix(written, "}") {
		name = "" // it is not closed
	}
	if why, ok := nginxLeftOut[name]; ok {
		return piece{}, fmt.Errorf("%q: a variable of nginx: leave the line out: %s", written, why)
	}
	if same := ofNginx(name); same != "" && variableText(same, in) != nil {
		return piece{}, fmt.Errorf("%q: a variable of nginx: want %s", written, same)
	}
	if strings.HasPrefix(written, "${") {
		return piece{}, fmt.Errorf("%q: no such variable here: want %s", written, words.Choice(variableNames(in)))
	}
	// The rest of the word may be one of a password.
	return piece{}, fmt.Errorf("%q before a letter or digit: want $$ for a dollar sign, or one of %s", "$", words.Choice(variableNames(in)))
}

// nginxVariables are variables of nginx, by their names there.
var nginxVariables = map[string]string{
	"args": "${query}", "query_string": "${query}",
	"binary_remote_addr": "${client}", "proxy_protocol_addr": "${client}", "realip_remote_addr": "${client}", "remote_addr": "${client}", "server_addr": "${local}",
	"document_uri": "${path}", "uri": "${path}", "request_uri": "${uri}",
	"request_method": "${method}", "remote_user": "${user}", "https": "${scheme}", "hostname": "${local}", "server_name": "${host}", "proxy_host": "${host}",
	"upstream_addr": "${backend}",
	"ssl_cipher":    "${tls_cipher}", "ssl_protocol": "${tls_version}", "ssl_server_name": "${server_name}",
	"ssl_client_cert": "${client_cert}", "ssl_client_escaped_cert": "${client_cert}", "ssl_client_raw_cert": "${client_cert}",
	"ssl_client_fingerprint": "${client_cert_fingerprint}", "ssl_client_i_dn": "${client_cert_issuer}", "ssl_client_s_dn": "${client_cert_subject}",
	"ssl_client_serial": "${client_cert_serial}", "ssl_client_verify": "${client_cert_verified}",
}

// nginxLeftOut are variables of nginx for lines that nothing has to take the place of.
var nginxLeftOut = map[string]string{
	"proxy_add_x_forwarded_for": "backends get X-Forwarded-For anyway, with the client at its end",
	"http_upgrade":              "WebSockets and other upgrades are passed on anyway",
	"connection_upgrade":        "WebSockets and other upgrades are passed on anyway",
	"http_connection":           "the connection to a backend is the proxy's own",
}

// nginxFamilies are the beginnings of nginx's families of variables.
var nginxFamilies = [][2]string{{"arg_", "${arg_"}, {"cookie_", "${cookie_"}, {"http_", "${header_"}}

// ofNginx returns what stands here for a variable of nginx; empty: it is none, or has no equal.
func ofNginx(name string) string {
	if same := nginxVariables[name]; same != "" {
		return same
	}
	for _, v := range variables {
		if v.of == nil && v.name == "${"+name+"}" {
			return v.name
		}
	}
	for _, f := range nginxFamilies {
		if rest, ok := strings.CutPrefix(name, f[0]); ok && rest != "" {
			return f[1] + rest + "}"
		}
	}
	return ""
}

// lastGroup is the highest group of a regular expression that the value has.
func (t template) lastGroup() (n int) {
	for i := range t {
		n = max(n, t[i].group)
	}
	return n
}

// value returns the value for x, without bytes that could end a line. It is valid as long as
// the request.
func (t template) value(x *exchange) string {
	switch {
	case len(t) == 0:
		return ""
	case len(t) == 1 && t[0].text == nil:
		return t[0].literal
	}
	start := len(x.text)
	for i := range t {
		p := &t[i]
		if p.text == nil {
			x.text = append(x.text, p.literal...)
			continue
		}
		from := len(x.text)
		x.text = p.text(x, x.text)
		for i, c := range x.text[from:] {
			if c < ' ' && c != '\t' || c == 0x7f {
				x.text[from+i] = ' ' // it could end the field
			}
		}
	}
	return x.written(start)
}
