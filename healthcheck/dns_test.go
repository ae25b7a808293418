package healthcheck

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/havip/havip/internal/lab"
	"github.com/havip/havip/internal/lab/labtest"
)

// answerDNS builds the reply of a small zone. change may spoil it.
func answerDNS(t *testing.T, query []byte, change func(*dnsmessage.Message)) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 || !m.RecursionDesired {
		t.Errorf("not a proper query: %+v (%v)", m, err)
		return nil
	}
	q := m.Questions[0]
	m.Response = true
	name := func(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }
	add := func(owner string, body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name(owner), Class: dnsmessage.ClassINET, TTL: 60}, Body: body,
		})
	}
	switch strings.ToLower(q.Name.String()) + q.Type.String() {
	case "www.example.com.TypeA":
		add("www.example.com.", &dnsmessage.CNAMEResource{CNAME: name("web.example.com.")})
		add("web.example.com.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
		add("web.example.com.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 2}})
	case "www.example.com.TypeAAAA":
		add("www.example.com.", &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}})
	case "www.example.com.TypeCNAME":
		add("www.example.com.", &dnsmessage.CNAMEResource{CNAME: name("web.EXAMPLE.com.")})
	case "example.com.TypeMX":
		add("example.com.", &dnsmessage.MXResource{Pref: 10, MX: name("mail.example.com.")})
	case "example.com.TypeNS":
		add("example.com.", &dnsmessage.NSResource{NS: name("ns1.example.com.")})
	case "example.com.TypeSOA":
		add("example.com.", &dnsmessage.SOAResource{NS: name("ns1.example.com."), MBox: name("root.example.com.")})
	case "example.com.TypeTXT":
		add("example.com.", &dnsmessage.TXTResource{TXT: []string{"v=spf1 ", "-all"}})
	case "_sip._tcp.example.com.TypeSRV":
		add("_sip._tcp.example.com.", &dnsmessage.SRVResource{Port: 5060, Target: name("sip.example.com.")})
	case "1.2.0.192.in-addr.arpa.TypePTR":
		add("1.2.0.192.in-addr.arpa.", &dnsmessage.PTRResource{PTR: name("www.example.com.")})
	case "empty.example.com.TypeA":
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	if change != nil {
		change(&m)
	}
	reply, err := m.Pack()
	if err != nil {
		t.Errorf("pack: %v", err)
	}
	return reply
}

// tcpDNS frames what answer returns.
func tcpDNS(answer func(query []byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := answer(query)
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
		drain(c)
	}
}

func TestDNS(t *testing.T) {
	server := func(change func(*dnsmessage.Message)) string {
		return serveUDP(t, func(q []byte) [][]byte { return [][]byte{answerDNS(t, q, change)} })
	}
	good := server(nil)
	overTCP := labtest.Listen(t, tcpDNS(func(q []byte) []byte { return answerDNS(t, q, nil) }))
	forged := serveUDP(t, func(q []byte) [][]byte {
		return [][]byte{
			[]byte("junk"), q, // not even a reply
			answerDNS(t, q, func(m *dnsmessage.Message) { m.ID++; m.RCode = dnsmessage.RCodeServerFailure }),
			answerDNS(t, q, func(m *dnsmessage.Message) {
				m.Questions[0].Type = dnsmessage.TypeTXT
				m.RCode = dnsmessage.RCodeServerFailure
			}),
			answerDNS(t, q, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("evil.") }),
			answerDNS(t, q, func(m *dnsmessage.Message) { m.Questions = nil }),
			answerDNS(t, q, nil),
		}
	})
	slow := serveUDP(t, func(q []byte) [][]byte { time.Sleep(300 * time.Millisecond); return [][]byte{answerDNS(t, q, nil)} })
	// too long for a datagram, and not marked as cut
	big := server(func(m *dnsmessage.Message) {
		for i := range 1000 {
			a := m.Answers[len(m.Answers)-1]
			a.Body = &dnsmessage.AResource{A: [4]byte{198, 51, byte(i >> 8), byte(i)}}
			m.Answers = append(m.Answers, a)
		}
	})
	torn := serveUDP(t, func(q []byte) [][]byte { b := answerDNS(t, q, nil); return [][]byte{b[:len(b)-3]} })
	ask := func(name, typ string, expect ...string) DNS {
		return DNS{Server: good, Name: name, Type: typ, Expect: expect}
	}
	at := func(server string) DNS { return DNS{Server: server, Name: "www.example.com"} }
	byTCP := func(server string) DNS { return DNS{Server: server, Name: "www.example.com", TCP: true} }
	runCheckCases(t, []checkCase{
		{name: "A behind a CNAME", checker: ask("www.example.com", "")},
		{name: "final dot, other case", checker: ask("WWW.example.com.", "a", "192.0.2.2", "192.0.2.1")},
		{name: "A, another address", checker: ask("www.example.com", "A", "192.0.2.1", "192.0.2.3"), want: `answers are ["192.0.2.1" "192.0.2.2"], want "192.0.2.3"`},
		{name: "AAAA", checker: ask("www.example.com", "AAAA", "2001:DB8:0::1")},
		{name: "CNAME", checker: ask("www.example.com", "CNAME", "web.example.com")},
		{name: "MX", checker: ask("example.com", "MX", "mail.example.com.")},
		{name: "NS", checker: ask("example.com", "NS", "ns1.example.com")},
		{name: "SOA", checker: ask("example.com", "SOA", "ns1.example.com")},
		{name: "TXT", checker: ask("example.com", "TXT", "v=spf1 -all")},
		{name: "SRV", checker: ask("_sip._tcp.example.com", "SRV", "sip.example.com")},
		{name: "PTR", checker: ask("1.2.0.192.in-addr.arpa", "PTR", "www.example.com")},
		{name: "no such name", checker: ask("nosuch.example.com", "A"), want: "server says NameError"},
		{name: "no such record", checker: ask("empty.example.com", "A"), want: "no A record"},
		{name: "server fails", checker: at(server(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure; m.Questions = nil })), want: "server says ServerFailure"},
		{name: "refused by policy", checker: at(server(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeRefused })), want: "server says Refused"},
		{name: "forged replies before the real one", checker: at(forged)},
		{name: "malformed", checker: at(torn), want: "malformed reply"},
		{name: "slow", checker: at(slow)},
		{name: "silent", checker: at(serveUDP(t, func([]byte) [][]byte { return nil })), patience: patience, is: isTimeout},
		{name: "nobody listens", checker: at(closedUDP(t)), want: "connection refused"},

		{name: "oversized", checker: at(big), want: "malformed reply"},

		{name: "by TCP", checker: byTCP(overTCP)},
		{name: "by TCP, another address", checker: DNS{Server: overTCP, Name: "www.example.com", Expect: []string{"192.0.2.3"}, TCP: true}, want: "want"},
		{name: "by TCP, wrong reply", checker: byTCP(labtest.Listen(t, tcpDNS(func(q []byte) []byte { return answerDNS(t, q, func(m *dnsmessage.Message) { m.ID++ }) }))),
			want: "reply to another question"},
		{name: "by TCP, slow", checker: byTCP(labtest.Listen(t, tcpDNS(func(q []byte) []byte { time.Sleep(300 * time.Millisecond); return answerDNS(t, q, nil) })))},
		{name: "by TCP, silent", checker: byTCP(labtest.Listen(t, silent)), patience: patience, is: isTimeout},
		{name: "by TCP, half-open", checker: byTCP(halfOpen(t)), patience: patience, is: isTimeout},
		{name: "by TCP, closes", checker: byTCP(labtest.Listen(t, saysAndCloses("\x00"))), want: "closed without a reply"},
		{name: "by TCP, closes in the middle", checker: byTCP(labtest.Listen(t, saysAndCloses("\x00\x20short"))), want: "closed without a reply"},
		{name: "by TCP, flood", checker: byTCP(labtest.Listen(t, flood)), want: "reply to another question"},
		{name: "by TCP, refused", checker: byTCP(lab.FreeAddress(t)), want: "connection refused"},
	})
	wantCancellable(t, at(serveUDP(t, func([]byte) [][]byte { return nil })))
}

// TestDNSTruncated: an answer that does not fit into a datagram is asked for by TCP, at the
// same port.
func TestDNSTruncated(t *testing.T) {
	var tcp string
	var conn net.PacketConn
	for range 20 { // until both ports of one number are free
		tcp = labtest.Listen(t, tcpDNS(func(q []byte) []byte { return answerDNS(t, q, nil) }))
		var err error
		if conn, err = net.ListenPacket("udp", tcp); err == nil {
			break
		}
	}
	if conn == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		reply := answerDNS(t, buf[:n], func(m *dnsmessage.Message) { m.Truncated = true; m.Answers = nil })
		_, _ = conn.WriteTo(reply, from)
	}()
	if err := (DNS{Server: tcp, Name: "www.example.com", Expect: []string{"192.0.2.1"}}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDNSValidate(t *testing.T) {
	for _, c := range []DNS{
		{Server: "192.0.2.53:53"}, {Name: "example.com"}, {Server: "192.0.2.53", Name: "example.com"},
		{Server: "192.0.2.53:53", Name: "example.com", Type: "NONSENSE"},
		{Server: "192.0.2.53:53", Name: strings.Repeat("x", 64) + ".com"},
		{Server: "192.0.2.53:53", Name: strings.Repeat("x.", 200)},
		{Server: "192.0.2.53:53", Name: "a..b"},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func FuzzDNSReply(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}
	query, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}).Pack()
	if err != nil {
		f.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		f.Fatal(err)
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.TXTResource{TXT: []string{"text"}},
	}}
	good, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(query)                              // the question come back
	f.Add(good[:20])                          // cut
	f.Add([]byte("\x00\x07\x80\x00\x00\x00")) // a header's beginning
	f.Fuzz(func(t *testing.T, reply []byte) {
		answers, err := parseDNSReply(reply, 7, q)
		if (err == nil) != (len(answers) > 0) {
			t.Errorf("answers %q with error %v", answers, err)
		}
		if err == nil && binary.BigEndian.Uint16(reply) != 7 {
			t.Errorf("reply %x has another number", reply)
		}
	})
}
