package healthcheck

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/havip/havip/internal/field"
	"github.com/havip/havip/internal/words"
)

// DNS is a [Checker] that asks a name server for a record. It asks by UDP, and
// by TCP if the answer does not fit.
type DNS struct {
	// Server is "host:port" or "[v6]:port". Required.
	Server string
	// Name is the name to look up. A final dot makes no difference. Required.
	Name string
	// Type is the record's type: A, AAAA, CNAME, MX, NS, PTR, SOA, SRV or TXT.
	// Default A.
	Type string
	// Expect lists answers that must all be there, whatever others are:
	// addresses; for CNAME, MX, NS, PTR, SRV and SOA the host that they name;
	// for TXT the text. Default: any answer of this type will do.
	Expect []string
	// TCP asks by TCP at once.
	TCP bool
}

var dnsTypes = map[string]dnsmessage.Type{
	"A":     dnsmessage.TypeA,
	"AAAA":  dnsmessage.TypeAAAA,
	"CNAME": dnsmessage.TypeCNAME,
	"MX":    dnsmessage.TypeMX,
	"NS":    dnsmessage.TypeNS,
	"PTR":   dnsmessage.TypePTR,
	"SOA":   dnsmessage.TypeSOA,
	"SRV":   dnsmessage.TypeSRV,
	"TXT":   dnsmessage.TypeTXT,
}

// WithDefaults returns c with the default of Type.
func (c DNS) WithDefaults() DNS {
	c.Type = cmp.Or(c.Type, "A")
	return c
}

// Validate reports what cannot be asked.
func (c DNS) Validate() error {
	c = c.WithDefaults()
	_, known := dnsTypes[strings.ToUpper(c.Type)]
	errs := []error{
		validateAddress("Server", c.Server),
		field.If(!known, "Type", "%q: want %s", c.Type, words.Choice(slices.Sorted(maps.Keys(dnsTypes)))),
		field.If(len(c.Name) > 253 || !hostForm.MatchString(c.Name), "Name", "%q: want a name such as www.example.org", c.Name),
	}
	for i, answer := range c.Expect {
		errs = append(errs, validateText(fmt.Sprintf("Expect[%d]", i), answer, "an answer"))
	}
	return errors.Join(errs...)
}

// Check asks the server.
func (c DNS) Check(ctx context.Context) error { return fail(c, c.probe(ctx)) }

// String names the check in errors and log lines.
func (c DNS) String() string { return "dns " + c.Server + " " + c.Name }

func (c DNS) probe(ctx context.Context) error {
	name, err := dnsmessage.NewName(strings.TrimSuffix(c.Name, ".") + ".")
	if err != nil {
		return err
	}
	question := dnsmessage.Question{Name: name, Type: dnsTypes[strings.ToUpper(c.WithDefaults().Type)], Class: dnsmessage.ClassINET}
	id := uint16(rand.Uint32())
	query, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{question},
	}).Pack()
	if err != nil {
		return err
	}
	var answers []string
	if !c.TCP {
		answers, err = c.ask(ctx, "udp", query, id, question)
	}
	if c.TCP || errors.Is(err, errTruncated) {
		answers, err = c.ask(ctx, "tcp", query, id, question)
	}
	if err != nil {
		return err
	}
	for _, want := range c.Expect {
		if !slices.Contains(answers, canonical(question.Type, want)) {
			return fmt.Errorf("answers are %q, want %q among them", answers, want)
		}
	}
	return nil
}

// ask sends the query, and returns the answers.
func (c DNS) ask(ctx context.Context, network string, query []byte, id uint16, q dnsmessage.Question) ([]string, error) {
	conn, release, err := dial(ctx, network, c.Server)
	if err != nil {
		return nil, err
	}
	defer release()
	read := readDatagram
	if network == "tcp" {
		read = readMessage
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...) // RFC 1035 §4.2.2
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for {
		reply, err := read(conn)
		if err != nil {
			return nil, err
		}
		answers, err := parseDNSReply(reply, id, q)
		// A forged datagram must not stand in the way of the real one.
		if network == "udp" && errors.Is(err, errForeignReply) {
			continue
		}
		closeInOrder(ctx, conn)
		return answers, err
	}
}

func readDatagram(conn net.Conn) ([]byte, error) {
	reply := make([]byte, maxDatagram) // without EDNS 512 are allowed (RFC 1035 §4.2.1)
	n, err := conn.Read(reply)
	return reply[:n], err
}

func readMessage(conn net.Conn) ([]byte, error) {
	var size [2]byte
	_, err := io.ReadFull(conn, size[:])
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	if err == nil {
		_, err = io.ReadFull(conn, reply)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("closed without a reply")
	}
	return reply, err
}

var (
	errForeignReply = errors.New("reply to another question")
	errTruncated    = errors.New("truncated reply")
)

// parseDNSReply returns the answers of the type asked for, in canonical form.
// errForeignReply means that reply does not belong to the question.
func parseDNSReply(reply []byte, id uint16, q dnsmessage.Question) ([]string, error) {
	var p dnsmessage.Parser
	header, err := p.Start(reply)
	if err != nil || header.ID != id || !header.Response {
		return nil, errForeignReply
	}
	// A refusal may come without the question.
	questions, err := p.AllQuestions()
	if err != nil || len(questions) > 1 || len(questions) == 0 && header.RCode == dnsmessage.RCodeSuccess {
		return nil, errForeignReply
	}
	for _, got := range questions {
		if got.Type != q.Type || got.Class != q.Class || !strings.EqualFold(got.Name.String(), q.Name.String()) {
			return nil, errForeignReply
		}
	}
	switch {
	case header.RCode != dnsmessage.RCodeSuccess:
		return nil, fmt.Errorf("server says %s", strings.TrimPrefix(header.RCode.String(), "RCode"))
	case header.Truncated:
		return nil, errTruncated
	}
	resources, err := p.AllAnswers()
	if err != nil {
		return nil, fmt.Errorf("malformed reply: %w", err)
	}
	var answers []string
	for _, r := range resources {
		if r.Header.Type == q.Type && r.Header.Class == q.Class {
			answers = append(answers, answerText(r.Body))
		}
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("no %s record", strings.TrimPrefix(q.Type.String(), "Type"))
	}
	return answers, nil
}

// answerText returns what identifies an answer, in canonical form.
func answerText(body dnsmessage.ResourceBody) string {
	host := func(n dnsmessage.Name) string { return canonical(dnsmessage.TypeCNAME, n.String()) }
	switch b := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(b.A).String()
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(b.AAAA).String()
	case *dnsmessage.CNAMEResource:
		return host(b.CNAME)
	case *dnsmessage.MXResource:
		return host(b.MX)
	case *dnsmessage.NSResource:
		return host(b.NS)
	case *dnsmessage.PTRResource:
		return host(b.PTR)
	case *dnsmessage.SOAResource:
		return host(b.NS)
	case *dnsmessage.SRVResource:
		return host(b.Target)
	case *dnsmessage.TXTResource:
		return strings.Join(b.TXT, "")
	}
	return ""
}

// canonical brings an expected answer into the form in which answers are
// compared: addresses as netip prints them, hosts in lower case without the
// final dot, text as it is.
func canonical(t dnsmessage.Type, text string) string {
	switch t {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		if ip := net.ParseIP(text); ip != nil {
			text = ip.String()
		}
		return text
	case dnsmessage.TypeTXT:
		return text
	}
	return strings.ToLower(strings.TrimSuffix(text, "."))
}
