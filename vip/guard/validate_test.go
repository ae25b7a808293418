package guard

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/havip/havip/internal/field"
)

// msg returns a netlink message with a length that fits.
func msg(typ, flags uint16, body ...byte) []byte {
	b := make([]byte, messageHeader, messageHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(messageHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], typ)
	binary.NativeEndian.PutUint16(b[6:], flags)
	return append(b, body...)
}

// info is a struct ifinfomsg.
func info(index, flags, change byte) []byte {
	return []byte{0, 0, 0, 0, index, 0, 0, 0, flags, 0, 0, 0, change, 0, 0, 0}
}

func TestValidateMessages(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are written down for little-endian machines")
	}
	addr := make([]byte, 8)
	attribute := []byte{5, 0, 1, 0, 7}
	for name, tt := range map[string]struct {
		will Will
		want string // in the error; empty: none
	}{
		"an address":              {Will{Requests: [][]byte{msg(rtmDelAddr, 1, addr...)}}, ""},
		"with an acknowledgement": {Will{Requests: [][]byte{msg(rtmDelAddr, 5, addr...)}}, ""},
		"with an attribute":       {Will{Requests: [][]byte{msg(rtmDelAddr, 1, append(addr, attribute...)...)}}, ""},
		"a link set down":         {Will{Requests: [][]byte{msg(rtmNewLink, 1, info(2, 0, 1)...)}}, ""},
		"a setting":               {Will{Settings: [][]byte{msg(rtmSetLink, 1, info(2, 0, 0)...)}}, ""},
		"a filter": {Will{Filters: [][]byte{slices.Concat(
			msg(nfBatchBegin, 1, 0, 0, 0, 10), msg(nfDeleteTable, 1, 1, 0, 0, 0), msg(nfBatchEnd, 1, 0, 0, 0, 10))}}, ""},

		"nothing":                  {Will{Requests: [][]byte{nil}}, "Requests[0]: empty"},
		"text":                     {Will{Requests: [][]byte{msg(rtmDelAddr, 1, addr...), []byte("rubbish")}}, "Requests[1]: 7 bytes: want"},
		"long text":                {Will{Settings: [][]byte{[]byte("more rubbish than a header has")}}, "Settings[0]: a message of 1701998445 bytes in 30"},
		"cut off":                  {Will{Requests: [][]byte{msg(rtmDelAddr, 1, addr...)[:20]}}, "a message of 24 bytes in 20"},
		"rubbish behind":           {Will{Requests: [][]byte{append(msg(rtmDelAddr, 1, addr...), 0, 0, 0, 0)}}, "4 bytes: want"},
		"too short":                {Will{Requests: [][]byte{msg(rtmDelAddr, 1)}}, "type 21 and 16 bytes: want 24"},
		"an address is added":      {Will{Requests: [][]byte{msg(20, 1, addr...)}}, "message type 20"},
		"a link is deleted":        {Will{Requests: [][]byte{msg(17, 1, info(2, 0, 0)...)}}, "message type 17"},
		"a link is made":           {Will{Requests: [][]byte{msg(rtmNewLink, 1|0x400, info(0, 0, 1)...)}}, "flags 0x401"},
		"a link is set up":         {Will{Requests: [][]byte{msg(rtmNewLink, 1, info(2, 1, 1)...)}}, "want it set down"},
		"a link without an index":  {Will{Requests: [][]byte{msg(rtmNewLink, 1, info(0, 0, 1)...)}}, "want it set down"},
		"a link loses other flags": {Will{Requests: [][]byte{msg(rtmNewLink, 1, info(2, 0, 3)...)}}, "want it set down"},
		"no request":               {Will{Requests: [][]byte{msg(rtmDelAddr, 0, addr...)}}, "flags 0x0"},
		"a request as a setting":   {Will{Settings: [][]byte{msg(rtmDelAddr, 1, addr...)}}, "Settings[0]: message type 21"},
		"a rule is added":          {Will{Filters: [][]byte{msg(10<<8|6, 1, 0, 0, 0, 0)}}, "Filters[0]: message type 2566"},
		"an attribute of nothing":  {Will{Requests: [][]byte{msg(rtmDelAddr, 1, append(addr, 0, 0, 1, 0)...)}}, "an attribute of 0 bytes in 4"},
		"an attribute too long":    {Will{Requests: [][]byte{msg(rtmDelAddr, 1, append(addr, 9, 0, 1, 0)...)}}, "an attribute of 9 bytes in 4"},
	} {
		err := tt.will.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}

func TestValidatePackets(t *testing.T) {
	good := Packet{Interface: 2, Source: ip("192.0.2.1"), Destination: ip("192.0.2.2"), Protocol: 51, TTL: 255, Payload: []byte{0x31, 51, 0, 1}}
	header := unhex(t, "45 c0 0018 1234 0000 ff 33 0000 c0000201 c0000202")
	given := func(change func(h []byte)) func(p *Packet) {
		return func(p *Packet) {
			p.Header = slices.Clone(header)
			change(p.Header)
		}
	}
	six := func(p *Packet) { p.Source, p.Destination = ip("fe80::1"), ip("2001:db8::2") }
	for name, tt := range map[string]struct {
		change func(p *Packet)
		want   []string // fields
	}{
		"as it is":                    {func(*Packet) {}, nil},
		"by the routing table":        {func(p *Packet) { p.Interface = 0 }, nil},
		"IPv6":                        {six, nil},
		"with its header":             {given(func([]byte) {}), nil},
		"no addresses":                {func(p *Packet) { p.Source, p.Destination = Packet{}.Source, Packet{}.Source }, []string{"Source", "Destination"}},
		"two families":                {func(p *Packet) { p.Source = ip("fe80::1") }, []string{"Source"}},
		"from nobody":                 {func(p *Packet) { p.Source = ip("0.0.0.0") }, []string{"Source"}},
		"from a group":                {func(p *Packet) { p.Source = ip("224.0.0.18") }, []string{"Source"}},
		"mapped":                      {func(p *Packet) { p.Destination = ip("::ffff:192.0.2.2") }, []string{"Destination", "Source"}},
		"multicast without interface": {func(p *Packet) { p.Interface, p.Destination = 0, ip("224.0.0.18") }, []string{"Interface"}},
		"negative interface":          {func(p *Packet) { p.Interface = -1 }, []string{"Interface"}},
		"nothing of it":               {func(p *Packet) { p.Protocol, p.TTL, p.Payload = 0, 0, nil }, []string{"Protocol", "TTL", "Payload"}},
		"too long":                    {func(p *Packet) { p.Payload = make([]byte, maxPayload+1) }, []string{"Payload"}},
		"half a header":               {func(p *Packet) { p.Header = header[:10] }, []string{"Header"}},
		"a header of IPv6":            {func(p *Packet) { six(p); p.Header = header }, []string{"Header"}},
		"another version":             {given(func(h []byte) { h[0] = 0x65 }), []string{"Header"}},
		"another header length":       {given(func(h []byte) { h[0] = 0x46 }), []string{"Header"}},
		"another length":              {given(func(h []byte) { h[3]++ }), []string{"Header"}},
		"another TTL":                 {given(func(h []byte) { h[8]-- }), []string{"Header"}},
		"another protocol":            {given(func(h []byte) { h[9]++ }), []string{"Header"}},
		"another source":              {given(func(h []byte) { h[12]++ }), []string{"Header"}},
		"another destination":         {given(func(h []byte) { h[19]++ }), []string{"Header"}},
	} {
		p := good
		tt.change(&p)
		var got []string
		for _, e := range field.All((Will{Packets: []Packet{good, p}}).Validate()) {
			got = append(got, strings.TrimPrefix(e.Field, "Packets[1]."))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzValidateMessages(f *testing.F) {
	f.Add(msg(rtmDelAddr, 1, make([]byte, 8)...))
	f.Add(msg(rtmNewLink, 1, info(2, 0, 1)...))
	f.Add([]byte{16, 0, 0, 0, 21, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Will{Requests: [][]byte{b}, Filters: [][]byte{b}, Settings: [][]byte{b}}.Validate()
	})
}
