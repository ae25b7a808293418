package lb

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/havip/havip/lb/internal/h1"
)

// checkResponse returns what is wrong with the head of a response beyond what makes it none.
func (x *exchange) checkResponse(res *h1.Response) error {
	if len(res.Fields) > maxResponseFields {
		return errHeaderTooLong
	}
	return nil
}

// hopByHopIDs are the fields of a response that concern the backend's connection, or frame
// the message, except for Content-Length.
var hopByHopIDs = h1.SetOf(h1.Connection, h1.TransferEncoding, h1.Trailer, h1.TE, h1.Upgrade, h1.KeepAlive,
	h1.ProxyConnection, h1.ProxyAuthenticate, h1.ProxyAuthorization, h1.HTTP2Settings)

// interimFields returns what the client gets of an informational response; false: the client
// gets none. One of HTTP/1.0 would take it for the final response (RFC 9110 §15.2). After the
// beginning of the final one there is none either: the caller knows. The fields are valid
// until the next call.
func (x *exchange) interimFields(res *h1.Response) ([]h1.Field, bool) {
	if !x.modern() {
		return nil, false
	}
	x.options = readOptions(x.options[:0], res.Fields, res.Has)
	x.answer = x.answer[:0]
	for i := range res.Fields {
		f := &res.Fields[i]
		if f.ID != h1.ContentLength && !holds(hopByHopIDs, f.ID) && !x.isOption(f) { // RFC 9110 §8.6
			x.answer = append(x.answer, *f)
		}
	}
	x.hinted = true
	return x.answer, true
}

// responded tells that x.pick has answered: no other backend is tried any more. owned: the
// connection belongs to the client already.
func (x *exchange) responded(res *h1.Response, owned bool) {
	x.record.Status = res.Status
	x.private = owned || x.bindsConnection(res)
	result := Success
	if x.poor {
		result = Failure
	}
	x.pick.Report(result) // the end of a stream may be far
}

// bindsConnection reports whether the request, or the response to it, authenticates the
// connection to the backend rather than the request: later requests on it count as those of
// the same user (RFC 4559 §6). The rules are those of nginx's ntlm directive and of
// HAProxy's http-reuse.
func (x *exchange) bindsConnection(res *h1.Response) bool {
	asked := holds(x.req.Has|x.cfg.requestFields.ids, h1.Authorization) && anyConnectionScheme(x.fields, h1.Authorization)
	return asked ||
		res.Status == http.StatusUnauthorized && anyConnectionScheme(res.Fields, h1.WWWAuthenticate) ||
		res.Status == http.StatusProxyAuthRequired && anyConnectionScheme(res.Fields, h1.ProxyAuthenticate)
}

// anyConnectionScheme reports whether the fields of an ID have credentials or a challenge of
// NTLM, or of Negotiate and its kind, Nego2. A comma in a quoted string may bring in what is
// none: then a connection is not shared that could have been.
func anyConnectionScheme(fields []h1.Field, id h1.ID) bool {
	for i := range fields {
		if fields[i].ID != id {
			continue
		}
		for item := range strings.SplitSeq(fields[i].Value, ",") {
			item = strings.TrimSpace(item)
			if len(item) >= 4 && (strings.EqualFold(item[:4], "NTLM") || strings.EqualFold(item[:4], "Nego")) {
				return true
			}
		}
	}
	return false
}

// responseFields returns the fields that the client gets of a final response, but for those
// that frame it: Content-Length is among them only where there is no body (HEAD, 304).
// Trailer is, if the client gets chunks. x.dated says whether the client's side adds no Date
// (RFC 9110 §6.6.1). source is this host's address in the connection to the backend. The
// fields are valid until the next call.
func (x *exchange) responseFields(res *h1.Response, source netip.Addr) []h1.Field {
	x.source = source
	x.unbounded = !res.NoBody && res.Length < 0
	x.options = readOptions(x.options[:0], res.Fields, res.Has)
	set := &x.cfg.responseFields
	x.dated = holds(set.ids, h1.Date)
	length := res.NoBody && res.Status != http.StatusNoContent && !holds(res.Has, h1.TransferEncoding)
	upgrade := res.Status == http.StatusUpgradeRequired && x.major == 1 && x.req.Minor > 0 && holds(res.Has, h1.Upgrade)
	x.answer = x.answer[:0]
	for i := range res.Fields {
		f := &res.Fields[i]
		switch {
		case f.ID == h1.Upgrade && upgrade: // which protocol is meant (RFC 9110 §15.5.22)
		case f.ID == h1.ContentLength && length:
			length = false // once
		case f.ID == h1.ContentLength, holds(hopByHopIDs, f.ID), set.sets(f), x.isOption(f):
			continue
		case f.ID == h1.Date:
			x.dated = true
		}
		x.answer = append(x.answer, *f)
	}
	if upgrade {
		x.answer = append(x.answer, h1.Field{Name: "Connection", Value: "Upgrade", ID: h1.Connection})
	}
	if x.chunked() && holds(res.Has, h1.Trailer) {
		x.announce(res)
	}
	x.minor = res.Minor
	if x.cfg.locations != nil {
		x.relocate()
	}
	x.answer = x.cfg.responseAdded.appendTo(set.appendTo(x.answer, x), x)
	if x.cfg.sticky != nil {
		x.stick()
	}
	x.compress(res)
	return x.answer
}

// chunked reports whether the client gets the response in chunks.
func (x *exchange) chunked() bool { return x.unbounded && x.modern() }

// announce adds the names of the trailers that the client gets.
func (x *exchange) announce(res *h1.Response) {
	x.announced = appendTrailers(x.announced[:0], res.Fields, maxResponseFields, x.cfg.responseFields.allowsTrailer)
	if len(x.announced) == 0 {
		return
	}
	x.answer = append(x.answer, h1.Field{Name: "Trailer", Value: strings.Join(x.announced, ", "), ID: h1.Trailer})
}

// errEarlySwitch: a backend has switched protocols while the body of the request goes on.
var errEarlySwitch = errors.New("switched protocols before the end of the request")

// switchFields returns the fields that the client gets of a 101 (Switching Protocols), or
// why it gets none. They stay as they came: they tell what was negotiated about the protocol.
func (x *exchange) switchFields(res *h1.Response, source netip.Addr) ([]h1.Field, error) {
	var few [4]string
	chosen := appendUpgrades(few[:0], res.Fields)
	if len(chosen) != 1 || !slices.ContainsFunc(x.upgrades, func(p string) bool { return strings.EqualFold(p, chosen[0]) }) {
		x.result = Failure
		return nil, fmt.Errorf("switched to protocol %q, asked for %q", chosen, x.upgrades)
	}
	x.source = source
	set := &x.cfg.responseFields
	x.answer = x.answer[:0]
	for i := range res.Fields {
		f := &res.Fields[i]
		switch f.ID {
		case h1.ContentLength, h1.TransferEncoding, h1.Trailer: // there is no body, hence no framing
		default:
			if !set.sets(f) {
				x.answer = append(x.answer, *f)
			}
		}
	}
	x.minor = res.Minor
	x.answer = x.cfg.responseAdded.appendTo(set.appendTo(x.answer, x), x)
	if x.cfg.sticky != nil {
		x.stick()
	}
	return x.answer, nil
}
