package lb

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// variable is what may stand in a value of a configuration.
type variable struct {
	name string // as it is written in a value; of a family, NAME stands for what the writer chooses
	in   parts  // where it may stand
	// text appends what the variable is for x. Control bytes in that become spaces. It must
	// leave x.text alone, to which b belongs.
	text textFunc
	of   func(name string) textFunc // text of a member of a family; nil: it is none
}

type textFunc func(x *exchange, b []byte) []byte

// parts are parts of a configuration.
type parts uint8

const (
	inRequests  parts = 1 << iota // RequestHeaders
	inHost                        // Host among them, which must stay a host
	inResponses                   // ResponseHeaders
	inAnswers                     // what is answered in a backend's place: targets of redirects, contents
	inKeys                        // what a request is told from others by

	everywhere = inRequests | inResponses | inAnswers | inKeys // but in Host
)

// variables are all variables, in the order in which an error names them.
var variables = []variable{
	{name: "${client}", in: everywhere | inHost, text: func(x *exchange, b []byte) []byte { return appendAddr(b, x.client.Addr()) }},
	{name: "${local}", in: everywhere | inHost, text: func(x *exchange, b []byte) []byte { return append(b, x.from.localText...) }},
	{name: "${backend}", in: inResponses, text: func(x *exchange, b []byte) []byte { return append(b, x.pick.Backend()...) }},
	{name: "${source}", in: inResponses, text: func(x *exchange, b []byte) []byte { return appendAddr(b, x.source) }},

	{name: "${host}", in: everywhere | inHost, text: appendHost},
	{name: "${http_host}", in: everywhere | inHost, text: appendAuthority},
	{name: "${scheme}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.scheme()...) }},
	{name: "${method}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.req.Method...) }},
	{name: "${uri}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.asked()...) }},
	{name: "${path}", in: everywhere, text: appendAskedPath},
	{name: "${query}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.query()...) }},
	{name: "${is_args}", in: everywhere, text: appendMark},
	{name: "${arg_NAME}", in: everywhere, of: argument},
	{name: "${cookie_NAME}", in: everywhere, of: cookie},
	{name: "${header_NAME}", in: everywhere, of: header},
	{name: "${request_id}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.requestID()...) }},
	{name: "${user}", in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, x.user...) }},
	{name: "${route}", in: everywhere, text: appendRoute},
	{name: "${1}", in: inAnswers, text: captured(1)}, // and up to ${9}: see variableText; $1 is the same
	{name: "${server_port}", in: everywhere | inHost, text: appendLocalPort},

	secureVariable("${client_cert_verified}", (*requestOrigin).verified),
	secureVariable("${client_cert_subject}", func(o *requestOrigin) string { return o.about().subject }),
	secureVariable("${client_cert_issuer}", func(o *requestOrigin) string { return o.about().issuer }),
	secureVariable("${client_cert_serial}", func(o *requestOrigin) string { return o.about().serial }),
	secureVariable("${client_cert_fingerprint}", func(o *requestOrigin) string { return o.about().fingerprint }),
	secureVariable("${client_cert}", (*requestOrigin).escapedPEM),
	secureVariable("${tls_version}", (*requestOrigin).protocol),
	secureVariable("${tls_cipher}", (*requestOrigin).cipher),
	secureVariable("${server_name}", (*requestOrigin).serverName),
}

// secureVariable is one of the client's TLS: see secureText.
func secureVariable(name string, text func(*requestOrigin) string) variable {
	return variable{name: name, in: everywhere, text: func(x *exchange, b []byte) []byte { return append(b, text(x.from)...) }}
}

// variableNames returns the names of the variables that may stand somewhere.
func variableNames(in parts) (names []string) {
	for _, v := range variables {
		if v.in&in != 0 {
			names = append(names, v.name)
		}
	}
	return names
}

// groupPattern finds the variable of a group.
var groupPattern = regexp.MustCompile(`^\$\{[1-9]\}$`)

// familyPattern finds what is chosen by the writer of a variable's name.
var familyPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]+\}$`)

// variableText returns the text of what looks like a variable; nil: there is no such variable
// there.
func variableText(written string, in parts) textFunc {
	if in&inAnswers != 0 && groupPattern.MatchString(written) {
		return captured(int(written[2] - '0'))
	}
	for _, v := range variables {
		if v.in&in == 0 {
			continue
		}
		if v.of == nil {
			if v.name == written {
				return v.text
			}
			continue
		}
		name, ok := strings.CutPrefix(written, strings.TrimSuffix(v.name, "NAME}"))
		if ok && familyPattern.MatchString(name) {
			return v.of(strings.TrimSuffix(name, "}"))
		}
	}
	return nil
}

// setField is a field that a configuration sets.
type setField struct {
	name  string // in the case in which it is configured
	id    h1.ID
	value template // empty: the field is removed
}

// setFields are RequestHeaders or ResponseHeaders, in the order of their names.
type setFields struct {
	list   []setField
	ids    h1.Set   // of list
	folded []string // what the names of list fold to
}

// compileFields prepares headers that are valid.
func compileFields(headers http.Header, in parts) (s setFields) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			f := setField{name: name, id: h1.IDOf(name)}
			f.value, _ = compileTemplate(value, in) // Validate has done so before
			s.add(f)
		}
	}
	return s
}

// add adds a field.
func (s *setFields) add(f setField) {
	s.list = append(s.list, f)
	s.ids |= h1.SetOf(f.id)
	s.folded = append(s.folded, fold(f.name))
}

// sets reports whether the field is set, or removed, by the configuration: what a message
// brings does not count.
func (s *setFields) sets(f *h1.Field) bool {
	if !holds(s.ids, f.ID) {
		return false
	}
	return f.ID != h1.Other || slices.ContainsFunc(s.list, func(own setField) bool { return h1.EqualName(own.name, f.Name) })
}

// appendTo appends the fields to those of a message, without those that are empty: of
// variables that are nothing for x. Host is no field here: see hostOf.
func (s *setFields) appendTo(fields []h1.Field, x *exchange) []h1.Field {
	for i := range s.list {
		if f := &s.list[i]; f.id != h1.Host {
			fields = f.appendTo(fields, x)
		}
	}
	return fields
}

// appendTo appends the field, unless it is empty.
func (f *setField) appendTo(fields []h1.Field, x *exchange) []h1.Field {
	value := f.value.value(x)
	if value == "" {
		return fields
	}
	return append(fields, h1.Field{Name: f.name, Value: value, ID: f.id})
}
