package h1

import "math/bits"

// ID is the name of a field that a proxy looks at. It spares comparing names again and
// again.
type ID uint8

// The names. Other is every name that is not among them.
const (
	Other ID = iota
	Authorization
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentRange
	ContentType
	Cookie
	Date
	Expect
	Forwarded
	Host
	HTTP2Settings
	KeepAlive
	Location
	MaxForwards
	Pragma
	ProxyAuthenticate
	ProxyAuthorization
	ProxyConnection
	Range
	RetryAfter
	Server
	SetCookie
	TE
	Trailer
	TransferEncoding
	Upgrade
	Vary
	Via
	WWWAuthenticate
	XForwardedFor
	XForwardedHost
	XForwardedProto
	XRealIP
	lastID
)

// names are the names as they are usually written.
var names = [lastID]string{
	Authorization: "Authorization", CacheControl: "Cache-Control", Connection: "Connection",
	ContentEncoding: "Content-Encoding", ContentLength: "Content-Length", ContentRange: "Content-Range",
	ContentType: "Content-Type", Cookie: "Cookie", Date: "Date", Expect: "Expect", Forwarded: "Forwarded", Host: "Host",
	HTTP2Settings: "HTTP2-Settings", KeepAlive: "Keep-Alive", Location: "Location", MaxForwards: "Max-Forwards",
	Pragma: "Pragma", ProxyAuthenticate: "Proxy-Authenticate", ProxyAuthorization: "Proxy-Authorization",
	ProxyConnection: "Proxy-Connection", Range: "Range", RetryAfter: "Retry-After", Server: "Server",
	SetCookie: "Set-Cookie", TE: "TE", Trailer: "Trailer", TransferEncoding: "Transfer-Encoding", Upgrade: "Upgrade",
	Vary: "Vary", Via: "Via", WWWAuthenticate: "WWW-Authenticate", XForwardedFor: "X-Forwarded-For",
	XForwardedHost: "X-Forwarded-Host", XForwardedProto: "X-Forwarded-Proto", XRealIP: "X-Real-IP",
}

// String returns the name as it is usually written; empty for Other.
func (id ID) String() string { return names[id] }

// longestName is the length of the longest of the names.
const longestName = len("Proxy-Authorization")

// byLength are the IDs whose names have a certain length. Four at most have the same.
var byLength = func() (table [longestName + 1][4]ID) {
	for id := Other + 1; id < lastID; id++ {
		slot := &table[len(names[id])]
		i := 0
		for slot[i] != Other {
			i++
		}
		slot[i] = id
	}
	return table
}()

// IDOf returns the ID of a name, in whatever case that is written.
func IDOf(name string) ID {
	if len(name) > longestName {
		return Other
	}
	for _, id := range byLength[len(name)] {
		if id == Other {
			break
		}
		if lower[name[0]] == lower[names[id][0]] && EqualName(name, names[id]) {
			return id
		}
	}
	return Other
}

// Set is a set of IDs.
type Set uint64

// SetOf returns the set of ids.
func SetOf(ids ...ID) Set {
	var s Set
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

// Any reports whether at least one of ids is in the set.
func (s Set) Any(ids ...ID) bool { return s&SetOf(ids...) != 0 }

// Len returns how many IDs are in the set.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }
