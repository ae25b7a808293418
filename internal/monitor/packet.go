package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/havip/havip/vrrp"
)

// observePacket looks at a packet of IP protocol 112 or 51.
func (w *Watcher) observePacket(d *decoded, at time.Time) {
	p := d.packet
	if d.broken == "" && p.Protocol == protocolAH && (len(p.Data) == 0 || p.Data[0] != protocolVRRP) {
		return // IPsec of others
	}
	if c, ok := parseCARP(p); ok && d.broken == "" {
		w.observeCARP(d, c, at)
		return
	}
	if d.broken != "" {
		w.refuse(d, CodeMalformed, d.broken, at)
		return
	}
	a, auth, err := vrrp.ParsePacket(p)
	reason := (*vrrp.DropError)(nil)
	if errors.As(err, &reason) && !readable(reason.Reason) {
		code, text := CodeMalformed, because(reason)
		if reason.Reason == vrrp.DropLength && reason.Got > reason.Want {
			code = CodeUnknownAuth
			text = fmt.Sprintf("unknown authentication: %d bytes follow its message, where version 2's password has 8 and HMAC 28", reason.Got-reason.Want)
		}
		w.refuse(d, code, text, at)
		return
	}
	w.observeAdvertisement(d, &a, w.paramsOf(d, &a, auth, reason), at)
}

// readable reports whether an advertisement that is discarded for a reason has its fields
// all the same, and is likely from who it says.
func readable(r vrrp.DropReason) bool {
	return r == vrrp.DropChecksum || r == vrrp.DropIntervalZero || r == vrrp.DropLinkLocal
}

// because is the reason without the words that a log line begins with.
func because(err *vrrp.DropError) string {
	_, text, _ := strings.Cut(err.Error(), fmt.Sprintf("from %v: ", err.Source))
	return text
}

// refuse says what cannot be read, and that somebody sends it.
func (w *Watcher) refuse(d *decoded, code Code, text string, at time.Time) {
	p := d.packet
	e := Event{Kind: KindOther, Time: at, Link: d.link, Text: fmt.Sprintf("%v > %v protocol %d, %d bytes: %s", p.Source, p.Destination, p.Protocol, len(p.Data), text)}
	w.events = append(w.events, e)
	// Numbers differ from packet to packet: the finding is the same.
	w.open(fmt.Sprintf("%s %v", d.link, p.Source), finding{
		code: code, problem: !strings.HasPrefix(text, "the capture"), link: d.link, repeats: true,
		text: fmt.Sprintf("%v sends what receivers discard: %s", p.Source, text),
		next: "what runs on " + p.Source.String() + ", and whether something on the way changes its packets",
	}, at)
}

// The HMAC trailer (draft-cassen-vrrp-auth-hmac): type, key ID, two reserved bytes, seconds.
const (
	trailerLen     = 28
	trailerHMAC    = 1
	trailerKey     = 1
	trailerSeconds = 4
)

// trailer returns the bytes behind the message that package vrrp has found to be there.
func trailer(p *vrrp.Packet) []byte {
	data := p.Payload()
	return data[len(data)-trailerLen:]
}

// paramsOf returns what an advertisement says of its sender.
func (w *Watcher) paramsOf(d *decoded, a *vrrp.Advertisement, auth vrrp.AuthType, err *vrrp.DropError) params {
	p := params{
		version: a.Version, interval: a.Interval, auth: auth.String(), multicast: a.Destination.IsMulticast(),
		checksum: a.Checksum, addresses: slices.Clone(a.Addresses),
	}
	switch {
	case err != nil:
		p.invalid, p.checksum = because(err), 0
	case p.multicast && d.packet.TTL != 255:
		p.invalid = fmt.Sprintf("TTL %d, want 255", d.packet.TTL)
	}
	switch {
	case auth == vrrp.AuthHMAC:
		if t := trailer(d.packet); t[0] == trailerHMAC {
			p.key = t[trailerKey]
		} else {
			p.auth = fmt.Sprintf("unknown trailer type %d", t[0])
		}
	case auth == vrrp.AuthPass:
		p.password = a.AuthData
	case auth == vrrp.AuthAH:
	case a.AuthType != 0:
		p.auth = fmt.Sprintf("unknown type %d", a.AuthType)
	}
	return p
}

// describe returns what is printed of an advertisement.
func (w *Watcher) describe(g *group, d *decoded, a *vrrp.Advertisement, p *params, gap time.Duration) *Advertisement {
	out := &Advertisement{
		Source: a.Source, Destination: a.Destination, MAC: d.mac, TTL: d.packet.TTL, Version: a.Version, Priority: a.Priority,
		Interval: Seconds(a.Interval), Addresses: p.addresses, Auth: w.authWord(g, p), Gap: Seconds(gap), Error: p.invalid,
	}
	if a.Version == 3 && a.Source.Is4() && p.invalid == "" {
		out.Checksum = p.checksum.String()
	}
	return out
}

// authWord names the authentication with the number of its password or key.
func (w *Watcher) authWord(g *group, p *params) string {
	switch {
	case p.auth == vrrp.AuthHMAC.String():
		return fmt.Sprintf("hmac#%d", p.key)
	case p.auth != vrrp.AuthPass.String():
		return p.auth
	case w.ShowSecrets:
		return fmt.Sprintf("pass %q", strings.TrimRight(string(p.password[:]), "\x00"))
	}
	i := slices.Index(g.passwords, p.password)
	if i < 0 && len(g.passwords) < maxSenders {
		i = len(g.passwords)
		g.passwords = append(g.passwords, p.password)
	}
	return fmt.Sprintf("pass#%d", i+1)
}

// judgeSender says what is wrong with the advertisements of s, whoever else there is.
func (w *Watcher) judgeSender(g *group, s *sender, at time.Time) {
	key := fmt.Sprintf("%s %v", g.name(), s.addr)
	judge := func(code Code, wrong bool, text, next string) {
		if !wrong {
			w.close(code, key, fmt.Sprintf("%v no longer has this: %s", s.addr, code), at)
			return
		}
		w.open(key, finding{code: code, problem: true, group: g, text: text, next: next, repeats: code == CodeMalformed}, at)
	}
	ttl := strings.HasPrefix(s.invalid, "TTL")
	judge(CodeTTL, ttl, fmt.Sprintf("%v sends to the group with %s: receivers discard it", s.addr, s.invalid),
		"a router that passes the group on, or a sender that is not on this link")
	judge(CodeMalformed, s.invalid != "" && !ttl, fmt.Sprintf("%v sends what receivers discard: %s", s.addr, s.invalid),
		"the program on "+s.addr.String()+", and whether something on the way, such as NAT, changes its packets")
	judge(CodeUnknownAuth, strings.HasPrefix(s.auth, "unknown"), fmt.Sprintf("%v authenticates by %s", s.addr, s.auth),
		"what runs on "+s.addr.String()+": VRRP knows none, pass and ah, and drafts hmac")
	if host, ok := w.carp[g.groupKey]; ok {
		w.carpClash(g, host, at)
	}
}

// clockOff is how far a signing clock may be off before that is said: havip's and
// Keepalived's window is never shorter.
const clockOff = 5 * time.Second

// judgeClock compares the clock of a sender that signs with that of the capture.
func (w *Watcher) judgeClock(g *group, s *sender, p *vrrp.Packet, at time.Time) {
	signed := time.Unix(int64(binary.BigEndian.Uint32(trailer(p)[trailerSeconds:])), 0)
	off, key := signed.Sub(at).Round(time.Second), fmt.Sprintf("%s %v", g.name(), s.addr)
	switch open := w.isOpen(CodeClock, key); {
	case off.Abs() > clockOff && !open:
		w.open(key, finding{
			code: CodeClock, group: g,
			text: fmt.Sprintf("the clock of %v, which signs, is off by %v against this host's", s.addr, off),
			next: "the time service of both hosts: signatures that are too old or too new are discarded",
		}, at)
	case off.Abs() <= clockOff && open:
		w.close(CodeClock, key, fmt.Sprintf("the clock of %v is right again", s.addr), at)
	}
}

// carpHello is what CARP sends in the place of VRRP's advertisement.
type carpHello struct {
	vhid, skew, demotion, base uint8
}

const carpLen = 36

// parseCARP recognises CARP, which has VRRP's protocol number and the first byte of version
// 2 (OpenBSD's netinet/ip_carp.h): its third 32-bit word begins a counter, and the length
// of its authentication is always 7 words.
func parseCARP(p *vrrp.Packet) (carpHello, bool) {
	b := p.Data
	if p.Protocol != protocolVRRP || len(b) < carpLen || b[0] != 0x21 || b[3] != 7 {
		return carpHello{}, false
	}
	if len(b) >= carpLen+8 && p.Source.Is4() { // long enough for VRRP with 7 addresses
		if _, _, err := vrrp.ParsePacket(p); err == nil {
			return carpHello{}, false
		}
	}
	return carpHello{vhid: b[1], skew: b[2], demotion: b[4], base: b[5]}, true
}

// observeCARP names CARP, and says where it meets VRRP.
func (w *Watcher) observeCARP(d *decoded, c carpHello, at time.Time) {
	p := d.packet
	text := fmt.Sprintf("%v > %v CARP, not VRRP: VHID %d, base %ds, skew %d, demotion %d", p.Source, p.Destination, c.vhid, c.base, c.skew, c.demotion)
	w.events = append(w.events, Event{Kind: KindOther, Time: at, Link: d.link, Text: text})
	k := groupKey{d.link, p.Source.Is6(), c.vhid}
	if len(w.carp) < maxGroups {
		w.carp[k] = p.Source
	}
	if g := w.groups[k]; g != nil {
		w.carpClash(g, p.Source, at)
	}
}

// carpClash says that CARP and VRRP use the same number.
func (w *Watcher) carpClash(g *group, host netip.Addr, at time.Time) {
	w.open(g.name(), finding{
		code: CodeCARP, problem: true, group: g,
		text: fmt.Sprintf("CARP of %v uses this number, too: both may use the hardware address %v", host, g.virtualMAC()),
		next: "the numbers: VRRP needs another VRID, or CARP another VHID",
	}, at)
}
