package vrrp

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/subtle"
	"net/netip"
	"slices"
	"time"

	"github.com/havip/havip/internal/inet"
)

// observation is a set of oddities of an accepted advertisement that its fields do not
// show: each is worth a counter or a rate-limited log line, but no discard.
type observation uint8

const (
	// seenAddresses: the addresses are not the configured ones, in any order.
	seenAddresses observation = 1 << iota
	// seenUnsigned: accepted without a signature, in HMACPermissive or
	// HMACReceiveOnly mode.
	seenUnsigned
	// seenClockSkew: the sender's clock is off by more than half the window.
	seenClockSkew
	// seenFormer: an address in common with the former configuration only.
	seenFormer
)

// wire turns one virtual router's advertisements into bytes and back, with all checks of
// a receiver and the state of authentication. It belongs to one goroutine.
type wire struct {
	cfg   *Config
	group netip.Addr // where multicast goes
	// own is the address that advertisements are sent from; the router keeps it up
	// to date. Advertisements that arrive from it are discarded.
	own netip.Addr
	// seen holds the observations of the last accepted parse.
	seen observation

	ours, theirs addressList // the configured addresses, and scratch space
	formers      []former

	out  Advertisement // the one to send, but for priority and IP addresses
	ah   *authHeader   // with AuthAH
	hmac *trailer      // with AuthHMAC
	drop DropError     // returned by parse, so that a discard allocates nothing
}

// newWire makes the wire for a validated cfg, which it keeps.
func newWire(cfg *Config) *wire {
	w := &wire{cfg: cfg, group: groupIPv4, own: cfg.Source}
	if cfg.family() == familyIPv6 {
		w.group = groupIPv6
	}
	w.configure()
	return w
}

// configure makes w follow its Config as that is now. Sequence numbers go on.
func (w *wire) configure() {
	a, before := &w.cfg.Auth, w.hmac
	w.hmac = nil
	w.ours.sort(w.cfg.Addresses)
	w.out = Advertisement{
		Version:   w.cfg.Version,
		VRID:      w.cfg.VRID,
		Interval:  w.cfg.Interval,
		Addresses: w.cfg.Addresses,
		Checksum:  w.cfg.Checksum,
	}
	switch a.Type {
	case AuthPass:
		w.out.AuthType, w.out.AuthData = uint8(AuthPass), password(a.Password)
	case AuthAH:
		w.out.AuthType = uint8(AuthAH)
		if w.ah == nil { // for good, see Config.Fixed
			w.ah = &authHeader{cfg: w.cfg}
		}
		key := password(a.Password)
		w.ah.mac = hmac.New(md5.New, key[:])
	case AuthHMAC:
		w.hmac = newTrailer(&a.HMAC)
		if before != nil {
			w.hmac.sent, w.hmac.heard, w.hmac.received = before.sent, before.heard, before.received
		}
	}
}

// appendPacket appends an advertisement as it follows the IP header of a packet from src
// to dst. With AuthAH, which signs that header, it appends the whole IPv4 packet. now is
// the wall clock, for sequence numbers.
func (w *wire) appendPacket(b []byte, priority uint8, src, dst netip.Addr, now time.Time) (_ []byte, err error) {
	switch {
	case w.ah != nil:
		seq := w.ah.nextSequence(now)
		if b, err = w.appendSealed(b, priority, src, dst, seq); err == nil {
			w.ah.sent, w.ah.sentAt = seq, now
		}
	case w.signs():
		seq := w.hmac.nextSequence(now)
		if b, err = w.appendSigned(b, priority, src, dst, seq); err == nil {
			w.hmac.sent = seq
		}
	default:
		b, err = w.appendMessage(b, priority, src, dst)
	}
	return b, err
}

// signs reports whether a trailer follows the messages.
func (w *wire) signs() bool { return w.hmac != nil && w.cfg.Auth.HMAC.Mode != HMACReceiveOnly }

// appendMessage appends the bare message.
func (w *wire) appendMessage(b []byte, priority uint8, src, dst netip.Addr) ([]byte, error) {
	w.out.Priority, w.out.Source, w.out.Destination = priority, src, dst
	return w.out.AppendBinary(b)
}

// appendSigned appends the message with its HMAC trailer.
func (w *wire) appendSigned(b []byte, priority uint8, src, dst netip.Addr, seq uint64) ([]byte, error) {
	start := len(b)
	b, err := w.appendMessage(b, priority, src, dst)
	if err != nil {
		return b, err
	}
	n := len(b) - start
	b = w.hmac.appendTrailer(b, start, &w.out, seq)
	w.out.putChecksum(b[start:], n) // over IPv6 it covers the trailer
	return b, nil
}

// appendSealed appends the IPv4 packet with its Authentication Header.
func (w *wire) appendSealed(b []byte, priority uint8, src, dst netip.Addr, seq uint32) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, inet.IPv4Len+ahLen)...)
	b, err := w.appendMessage(b, priority, src, dst)
	if err != nil {
		return b[:start], err
	}
	w.ah.seal(b[start:], src, dst, w.cfg.TTL, seq)
	return b, nil
}

// farewell appends an advertisement of priority 0, as appendPacket does, that another
// process can send after the death of this one. It counts as newer than everything this
// wire sends within validFor.
func (w *wire) farewell(b []byte, src, dst netip.Addr, now time.Time) (_ []byte, validFor time.Duration, err error) {
	const forever = time.Duration(1<<63 - 1)
	switch {
	case w.ah != nil:
		b, err = w.appendSealed(b, 0, src, dst, w.ah.nextSequence(now)+ahLead)
		// at the shortest interval, 1 s, with as many answers in between
		return b, ahLead / time.Duration(2*max(1, len(w.cfg.Peers))) * time.Second, err
	case w.signs():
		lead := w.hmac.lead()
		b, err = w.appendSigned(b, 0, src, dst, w.hmac.nextSequence(now)+uint64(lead))
		return b, time.Duration(lead>>16) * time.Second >> 16, err
	}
	b, err = w.appendMessage(b, 0, src, dst)
	return b, forever, err
}

// parse reads p into adv, reusing adv.Addresses, and does all checks of a receiver. An
// error is a *DropError that is valid until the next call, and adv is of no use then.
// Without an error w.seen holds the oddities. now is the wall clock, for AuthHMAC.
func (w *wire) parse(adv *Advertisement, p *Packet, now time.Time) error {
	w.seen = 0
	w.drop = DropError{Source: p.Source}
	if w.checkPath(p); w.drop.Reason == 0 {
		w.readMessage(adv, p, now)
	}
	if w.drop.Reason != 0 {
		return &w.drop
	}
	return nil
}

// checkPath checks the addresses and the TTL of p.
func (w *wire) checkPath(p *Packet) {
	d, src, dst := &w.drop, p.Source.WithZone(""), p.Destination.WithZone("")
	switch {
	case src.Is4() != w.group.Is4() || !src.IsValid():
		d.drop(DropFamily, 0, 0)
	case src == w.own:
		d.drop(DropOwn, 0, 0)
	case dst != w.group && len(w.cfg.Peers) == 0:
		d.explain(DropDestination, " by unicast, but this router has no peers and uses multicast")
	case dst == w.group && len(w.cfg.Peers) > 0:
		d.explain(DropDestination, " by multicast, but this router has peers and uses unicast")
	case len(w.cfg.Peers) == 0:
		// the sender is on the link (RFC 9568 §5.1.1.3, §5.1.2.3)
		if p.TTL != 255 {
			d.drop(DropTTL, uint64(p.TTL), 255)
		}
	case !slices.Contains(w.cfg.Peers, src):
		d.drop(DropStranger, 0, 0)
	case p.TTL < w.cfg.MinTTL:
		d.drop(DropTTLBelowMinimum, uint64(p.TTL), uint64(w.cfg.MinTTL))
	case p.TTL > w.cfg.MaxTTL:
		d.drop(DropTTLAboveMaximum, uint64(p.TTL), uint64(w.cfg.MaxTTL))
	}
}

// readMessage reads the message of p into adv and checks it in the order of RFC 3768 §7.1
// and RFC 9568 §7.1.
func (w *wire) readMessage(adv *Advertisement, p *Packet, now time.Time) {
	d, data := &w.drop, p.Payload()
	switch {
	case p.Protocol == protocolAH && w.ah == nil:
		d.drop(DropAuthType, uint64(AuthAH), uint64(w.cfg.Auth.Type))
		return
	case p.Protocol != protocolAH && w.ah != nil:
		d.explain(DropAuthType, " without an Authentication Header, want AH")
		return
	case w.ah != nil:
		if data = w.ah.unseal(p, data, d); data == nil {
			return
		}
	}
	n := adv.decode(data, p.Source, p.Destination, d)
	switch {
	case n == 0:
	case adv.Version != w.cfg.Version:
		d.drop(DropVersion, uint64(adv.Version), uint64(w.cfg.Version))
	case adv.VRID != w.cfg.VRID:
		d.drop(DropVRID, uint64(adv.VRID), uint64(w.cfg.VRID))
	default:
		w.authenticate(adv, data[:n], data[n:], now)
		if d.Reason == 0 {
			w.checkAddresses(adv, now)
		}
		if d.Reason == 0 && adv.Version == 2 {
			w.checkInterval(adv, now)
		}
	}
}

// checkInterval checks the interval of version 2, which is not learned.
func (w *wire) checkInterval(adv *Advertisement, now time.Time) {
	if adv.Interval != w.cfg.Interval && !w.formerly(now, func(f *former) bool { return f.interval == adv.Interval }) {
		w.drop.drop(DropInterval, uint64(adv.Interval/time.Second), uint64(w.cfg.Interval/time.Second))
	}
}

// authenticate checks the authentication of message, except for AuthAH, which was checked
// before. tr is the HMAC trailer, or empty.
func (w *wire) authenticate(adv *Advertisement, message, tr []byte, now time.Time) {
	d := &w.drop
	switch {
	case adv.AuthType > uint8(AuthAH):
		d.explain(DropAuthType, " of an unknown type")
	case adv.AuthType != w.out.AuthType:
		d.drop(DropAuthType, uint64(adv.AuthType), uint64(w.cfg.Auth.Type))
	case w.hmac == nil && len(tr) > 0:
		d.drop(DropAuthType, uint64(AuthHMAC), uint64(w.cfg.Auth.Type))
	case w.hmac != nil && len(tr) > 0:
		w.seen |= w.hmac.verify(adv, message, tr, now, d)
	case w.hmac != nil && w.cfg.Auth.HMAC.Mode == HMACEnforce:
		d.drop(DropAuthType, uint64(AuthNone), uint64(AuthHMAC))
	case w.hmac != nil:
		w.seen |= seenUnsigned
	case w.cfg.Auth.Type == AuthPass:
		if subtle.ConstantTimeCompare(adv.AuthData[:], w.out.AuthData[:]) != 1 {
			d.explain(DropAuth, ": the passwords differ")
		}
	}
}
