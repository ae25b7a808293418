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
	list []setField
	ids  h1.Set // of list
}

// compileFields prepares headers that are valid.
func compileFields(headers map[string]string) (s setFields) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		f := setField{name: name, id: h1.IDOf(name), pieces: compileValue(headers[name])}
		s.list = append(s.list, f)
		s.ids |= h1.SetOf(f.id)
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

// appendTo appends the fields to those of a message. Host is no field here: see hostOf.
func (s *setFields) appendTo(fields []h1.Field, x *exchange) []h1.Field {
	for i := range s.list {
		if f := &s.list[i]; len(f.pieces) > 0 && f.id != h1.Host {
			fields = append(fields, h1.Field{Name: f.name, Value: f.value(x), ID: f.id})
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
