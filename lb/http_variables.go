package lb

import (
	"maps"
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// variable is what may stand in a value of RequestHeaders or ResponseHeaders.
type variable struct {
	name string // as it is written in a value
	in   parts  // where it may stand
	// text appends what the variable is for x. Control bytes in that become spaces.
	text func(x *exchange, b []byte) []byte
}

// parts are parts of a configuration.
type parts uint8

const (
	inRequests  parts = 1 << iota // RequestHeaders
	inHost                        // Host among them, which must stay a host
	inResponses                   // ResponseHeaders
)

// variables are all variables, in the order in which an error names them.
var variables = []variable{
	{"${client}", inRequests | inHost | inResponses, func(x *exchange, b []byte) []byte { return append(b, x.from.clientText...) }},
	{"${local}", inRequests | inHost | inResponses, func(x *exchange, b []byte) []byte { return append(b, x.from.localText...) }},
	{"${backend}", inResponses, func(x *exchange, b []byte) []byte { return append(b, x.pick.Backend()...) }},
	{"${source}", inResponses, func(x *exchange, b []byte) []byte { return appendAddr(b, x.source) }},

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
	return variable{name, inRequests | inResponses, func(x *exchange, b []byte) []byte { return append(b, text(x.from)...) }}
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

// setField is a field that a configuration sets.
type setField struct {
	name   string // in the case in which it is configured
	id     h1.ID
	pieces []piece // of the value; none: the field is removed
}

// piece is a part of a value: a text, or a variable.
type piece struct {
	literal string
	text    func(x *exchange, b []byte) []byte // nil: literal
}

// setFields are RequestHeaders or ResponseHeaders, in the order of their names.
type setFields struct {
	list   []setField
	ids    h1.Set   // of list
	folded []string // what the names of list fold to
}

// compileFields prepares headers that are valid.
func compileFields(headers map[string]string) (s setFields) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		f := setField{name: name, id: h1.IDOf(name), pieces: compileValue(headers[name])}
		s.list = append(s.list, f)
		s.ids |= h1.SetOf(f.id)
		s.folded = append(s.folded, fold(name))
	}
	return s
}

// compileValue cuts a value at its variables.
func compileValue(value string) (pieces []piece) {
	for value != "" {
		at, next := len(value), variable{}
		for _, v := range variables {
			if i := strings.Index(value, v.name); i >= 0 && i < at {
				at, next = i, v
			}
		}
		if at > 0 {
			pieces = append(pieces, piece{literal: value[:at]})
		}
		if next.name != "" {
			pieces = append(pieces, piece{text: next.text})
		}
		value = value[at+len(next.name):]
	}
	return pieces
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
		f := &s.list[i]
		if f.id == h1.Host {
			continue
		}
		if value := f.value(x); value != "" {
			fields = append(fields, h1.Field{Name: f.name, Value: value, ID: f.id})
		}
	}
	return fields
}

// value returns the value of the field for x.
func (f *setField) value(x *exchange) string {
	if len(f.pieces) == 1 && f.pieces[0].text == nil {
		return f.pieces[0].literal
	}
	start := len(x.text)
	for i := range f.pieces {
		p := &f.pieces[i]
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
