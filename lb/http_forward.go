package lb

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"unsafe"

	"github.com/havip/havip/lb/internal/h1"
)

// What requests to backends get from here. The client's values of these fields do not count,
// or not alone.
const (
	ownConnection = iota
	ownTE
	ownUpgrade
	ownMaxForwards
	ownForwardedFor
	ownForwardedHost
	ownForwardedProto
	ownRealIP
	ownFields
)

// ownNames are the names of those that come without one from the client.
var ownNames = [ownFields]h1.Field{
	{Name: "Connection", ID: h1.Connection}, {Name: "TE", ID: h1.TE}, {Name: "Upgrade", ID: h1.Upgrade},
	{Name: "Max-Forwards", ID: h1.MaxForwards}, {Name: "X-Forwarded-For", ID: h1.XForwardedFor},
	{Name: "X-Forwarded-Host", ID: h1.XForwardedHost}, {Name: "X-Forwarded-Proto", ID: h1.XForwardedProto},
	{Name: "X-Real-IP", ID: h1.XRealIP},
}

// ownAt says which of them an ID is; ownFields: none.
var ownAt = func() (table [64]uint8) {
	for id := range table {
		table[id] = ownFields
	}
	for i, f := range ownNames {
		table[f.ID] = uint8(i)
	}
	return table
}()

// neverPassed are the fields of a request that the client's connection, or the framing, is
// made of. Backends get what is theirs. Host has a place of its own.
var neverPassed = h1.SetOf(h1.Host, h1.ContentLength, h1.TransferEncoding, h1.Trailer, h1.KeepAlive, h1.ProxyConnection,
	h1.ProxyAuthenticate, h1.ProxyAuthorization, h1.HTTP2Settings)

// own is a field that requests get from here.
type own struct {
	value string
	mode  ownMode
}

// ownMode says what becomes of the client's fields of that name.
type ownMode uint8

const (
	ownReplace ownMode = iota // the first gives its place to value, if that is not empty
	ownKeep                   // they stay
	ownDone                   // value has its place
)

// prepare makes of the request what backends get: host, fields, trailers, and flow. It is
// called once, after refusal.
func (x *exchange) prepare() {
	req := x.req
	x.expect, x.length = x.expects(), req.Length
	x.options = readOptions(x.options[:0], req.Fields, req.Has)
	x.readUpgrades()
	x.readTrailers()
	var ours [ownFields]own
	x.ownConnection(&ours)
	x.ownForwarded(&ours)
	set := &x.cfg.requestFields
	dropped := 0
	for i := range req.Fields {
		f := &req.Fields[i]
		at := ownAt[f.ID]
		switch {
		case holds(neverPassed, f.ID), set.sets(f), f.ID == h1.Authorization && x.cfg.auth != nil && x.cfg.auth.drop:
		case at < ownFields && ours[at].mode != ownKeep:
			if o := &ours[at]; o.mode == ownReplace && o.value != "" {
				x.fields = append(x.fields, h1.Field{Name: f.Name, Value: o.value, ID: f.ID})
				o.mode = ownDone
			}
		case x.cfg.folds.drops(f):
			dropped++
		case f.ID == h1.Forwarded && x.estranged(), x.isOption(f):
		case f.ID == h1.Cookie && x.cfg.sticky != nil:
			if value := x.withoutSticky(f.Value); value != "" {
				x.fields = append(x.fields, h1.Field{Name: f.Name, Value: value, ID: f.ID})
			}
		default:
			x.fields = append(x.fields, *f)
		}
	}
	for i, o := range ours {
		if f := ownNames[i]; o.mode == ownReplace && o.value != "" && !holds(set.ids, f.ID) {
			f.Value = o.value
			x.fields = append(x.fields, f)
		}
	}
	x.fields = x.cfg.requestAdded.appendTo(set.appendTo(x.fields, x), x)
	x.host = x.hostOf()
	x.flow = Flow{Client: x.client, Key: x.hashKey()}
	if x.cfg.sticky != nil {
		x.readSticky()
	}
	if dropped > 0 {
		x.logDropped()
	}
}

// expects reports whether the client waits for 100 (Continue) before it sends the body.
func (x *exchange) expects() bool {
	return x.modern() && holds(x.req.Has, h1.Expect) && anyToken(x.req.Fields, h1.Expect, "100-continue")
}

// ownConnection sets what concerns the connection to the backend.
func (x *exchange) ownConnection(ours *[ownFields]own) {
	trailers := holds(x.req.Has, h1.TE) && anyToken(x.req.Fields, h1.TE, "trailers")
	upgrades := len(x.upgrades) > 0
	if trailers {
		ours[ownTE].value = "trailers"
	}
	if upgrades {
		start := len(x.text)
		for i, p := range x.upgrades {
			if i > 0 {
				x.text = append(x.text, ", "...)
			}
			x.text = append(x.text, p...)
		}
		ours[ownUpgrade].value = x.written(start)
	}
	switch {
	case trailers && upgrades:
		ours[ownConnection].value = "TE, Upgrade" // RFC 9110 §10.1.4
	case trailers:
		ours[ownConnection].value = "TE"
	case upgrades:
		ours[ownConnection].value = "Upgrade"
	}
	if ours[ownMaxForwards].value = x.forwards; x.forwards == "" {
		ours[ownMaxForwards].mode = ownKeep
	}
}

// ownForwarded sets what tells backends about the client.
func (x *exchange) ownForwarded(ours *[ownFields]own) {
	ours[ownForwardedFor].value = x.forwardedFor()
	ours[ownForwardedHost].value = x.authority
	ours[ownForwardedProto].value = x.scheme()
	ours[ownRealIP].value = x.clientText()
	if !x.trusted {
		return
	}
	// A trusted proxy is nearer to the client, and knows better.
	for at := ownForwardedHost; at <= ownForwardedProto; at++ {
		if id := ownNames[at].ID; holds(x.req.Has, id) && x.firstPassed(id) != "" {
			ours[at].mode = ownKeep
		}
	}
}

// forwardedFor returns the X-Forwarded-For of backends: the one that has come, with the
// address that has connected at the end.
func (x *exchange) forwardedFor() string {
	if !holds(x.req.Has, h1.XForwardedFor) || x.estranged() {
		return x.from.clientText
	}
	start := len(x.text)
	add := func(value string) {
		if value == "" {
			return
		}
		if len(x.text) > start {
			x.text = append(x.text, ", "...)
		}
		x.text = append(x.text, value...)
	}
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.ID == h1.XForwardedFor && x.passes(f) {
			add(f.Value)
		}
	}
	add(x.from.clientText)
	return x.written(start)
}

// clientText returns the address of the client for backends.
func (x *exchange) clientText() string {
	if x.client == x.from.client {
		return x.from.clientText
	}
	start := len(x.text)
	x.text = appendAddr(x.text, x.client.Addr())
	return x.written(start)
}

// estranged reports whether proxies are trusted by name, and who has connected is none of
// them: what a stranger claims about others is dropped then.
func (x *exchange) estranged() bool { return len(x.cfg.TrustedProxies) > 0 && !x.trusted }

// passes reports whether a field of the request gets further than the client's connection.
func (x *exchange) passes(f *h1.Field) bool { return !x.cfg.folds.drops(f) && !x.isOption(f) }

// firstPassed returns the value of the first field of that name which gets further.
func (x *exchange) firstPassed(id h1.ID) string {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.ID == id && x.passes(f) {
			return f.Value
		}
	}
	return ""
}

// hostOf returns the Host that backends get: the configured one, or else the client's. Where
// the client sends none, as HTTP/1.0 allows, the Host is the address that the client has
// connected to.
func (x *exchange) hostOf() string {
	if set := &x.cfg.requestFields; holds(set.ids, h1.Host) {
		at := slices.IndexFunc(set.list, func(f setField) bool { return f.id == h1.Host })
		host := set.list[at].value.value(x)
		if strings.Count(host, ":") > 1 && host[0] != '[' { // an address of IPv6, of ${local}
			host = "[" + host + "]"
		}
		if validAuthority(host) { // variables make it another one
			return host
		}
	}
	if x.authority == "" && x.from.local.IsValid() {
		return x.from.local.String()
	}
	return x.authority
}

// hashKey returns what KeyHash ties to a backend.
func (x *exchange) hashKey() string {
	if x.cfg.Key != nil && x.hook != nil {
		return x.cfg.Key(x.hook)
	}
	if x.cfg.hashKey != nil {
		return x.configuredKey()
	}
	path, _, _ := strings.Cut(x.target, "?")
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	start := len(x.text)
	x.text = appendPath(x.text, path)
	return x.written(start)
}

// logDropped logs the names of headers that were dropped for them. An application that
// misses one says nothing of it: the log does.
func (x *exchange) logDropped() {
	if !x.cfg.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	var names []string
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; x.cfg.folds.drops(f) {
			names = append(names, strings.Clone(f.Name))
		}
	}
	x.cfg.log.Debug("headers dropped for their names", "client", x.client, "names", names)
}

// appendRequest appends the head of the request to b. body: there is one. expect: the
// backend says whether it wants that.
func (x *exchange) appendRequest(b []byte, body, expect bool) []byte {
	b = h1.AppendRequestLine(b, x.req.Method, x.target)
	b = h1.AppendField(b, "Host", x.host)
	switch {
	case body:
		b = h1.AppendLength(b, x.length)
		if x.length == h1.Chunked && len(x.trailers) > 0 {
			b = append(b, "Trailer: "...)
			for i, name := range x.trailers {
				if i > 0 {
					b = append(b, ", "...)
				}
				b = append(b, name...)
			}
			b = append(b, "\r\n"...)
		}
	case holds(x.req.Has, h1.ContentLength) || usuallyHasBody(x.req.Method):
		b = append(b, "Content-Length: 0\r\n"...)
	}
	for i := range x.fields {
		if f := &x.fields[i]; f.ID != h1.Expect || expect {
			b = h1.AppendField(b, f.Name, f.Value)
		}
	}
	return append(b, "\r\n"...)
}

// usuallyHasBody reports whether a request of a method has a body as a rule: some servers
// insist on a length there.
func usuallyHasBody(method string) bool {
	return slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, method)
}

// bytesText returns b as a string that shares its memory.
func bytesText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
