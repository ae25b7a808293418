package lb

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// TicketKeys encrypt the tickets by which clients resume TLS sessions. Without keys of its
// own a tls.Config makes random ones, and a failover costs every client a full handshake:
// hosts that have the same TicketKeys resume the sessions of one another. Set both methods
// in a tls.Config:
//
//	keys, err := lb.NewTicketKeys("/etc/havip/ticket.key")
//	...
//	cfg.TLS.WrapSession, cfg.TLS.UnwrapSession = keys.WrapSession, keys.UnwrapSession
//
// Unlike tls.Config.SetSessionTicketKeys, that holds for clones of the tls.Config too, and
// rotation needs no goroutine. Whether a session may be resumed is for crypto/tls to say:
// it judges a client's certificate again by the ClientCAs that are there now.
type TicketKeys struct {
	files  []string
	secret []byte // nil: the keys are those of the files
	set    atomic.Pointer[ticketSet]
}

// ticketSet are the keys of one period, or of one reading of the files.
type ticketSet struct {
	period int64       // 0: for ever
	cipher *tls.Config // which does no more than encrypt and decrypt tickets
}

// ticketKey is a key as crypto/tls takes it.
type ticketKey = [32]byte

// ticketPeriod is for how long tickets are encrypted by one key of a secret. They are good
// for as long again.
const ticketPeriod = 24 * time.Hour

// MinTicketSecret is the length in bytes that DeriveTicketKeys wants. Whoever has seen a
// ticket can try out secrets, as many as their computers can, and would read what is said in
// the sessions of TLS 1.2.
const MinTicketSecret = 32

// NewTicketKeys reads keys from files of 48 or 80 bytes, as nginx's ssl_session_ticket_key
// takes them and "openssl rand 80" makes them. The key of the first file encrypts, and all
// decrypt: to rotate, put a new one in front and leave the old ones until their tickets
// have had their time. Tickets of nginx itself cannot be read.
func NewTicketKeys(files ...string) (*TicketKeys, error) {
	if len(files) == 0 {
		return nil, errors.New("lb: session ticket keys: no file given")
	}
	k := &TicketKeys{files: files}
	return k, k.Reload()
}

// DeriveTicketKeys makes a key for each day (UTC) from a secret of MinTicketSecret bytes or
// more. The keys of the day before and of the next day decrypt as well, so the clocks of
// hosts may differ, and a ticket is good for one to two days.
func DeriveTicketKeys(secret []byte) (*TicketKeys, error) {
	if len(secret) < MinTicketSecret {
		return nil, fmt.Errorf("lb: session ticket secret: want at least %d bytes, such as openssl rand -hex %d makes", MinTicketSecret, MinTicketSecret)
	}
	return &TicketKeys{secret: append([]byte{}, secret...)}, nil
}

// Reload reads the files again, for connections from now on. On error the keys in use
// stay. Without files it does nothing.
func (k *TicketKeys) Reload() error {
	if k.secret != nil {
		return nil
	}
	var keys []ticketKey
	for _, file := range k.files {
		data, err := readSmallFile(file, longTicketKey+1)
		if err == nil {
			err = CheckTicketKey(data)
		}
		if err != nil {
			return fmt.Errorf("lb: session ticket key %s: %w", file, err)
		}
		keys = append(keys, sha256.Sum256(data))
	}
	k.set.Store(newTicketSet(0, keys))
	return nil
}

// The lengths of a key in a file: a name of 16 bytes, and keys for AES-128 or AES-256 and
// HMAC. crypto/tls makes all of them from 32 bytes, and so a hash of the whole is as good.
const (
	shortTicketKey = 48
	longTicketKey  = 80
)

// CheckTicketKey returns what is wrong with the contents of a file for NewTicketKeys.
func CheckTicketKey(data []byte) error {
	switch n := len(data); {
	case n > longTicketKey:
		return fmt.Errorf("more than %d bytes: want %d or %d, such as openssl rand %d makes", longTicketKey, shortTicketKey, longTicketKey, longTicketKey)
	case n != shortTicketKey && n != longTicketKey:
		return fmt.Errorf("%d bytes: want %d or %d, such as openssl rand %d makes", n, shortTicketKey, longTicketKey, longTicketKey)
	}
	return nil
}

// newTicketSet returns keys of which the first encrypts.
func newTicketSet(period int64, keys []ticketKey) *ticketSet {
	s := &ticketSet{period, new(tls.Config)}
	s.cipher.SetSessionTicketKeys(keys)
	return s
}

// at returns the keys that are in use.
func (k *TicketKeys) at(now time.Time) *tls.Config {
	s, period := k.set.Load(), int64(0)
	if k.secret != nil {
		period = ticketPeriodAt(now)
	}
	if s == nil || s.period != period {
		s = newTicketSet(period, derivedTicketKeys(k.secret, period))
		k.set.Store(s) // another connection may do the same at the same time
	}
	return s.cipher
}

func ticketPeriodAt(now time.Time) int64 { return now.Unix() / int64(ticketPeriod/time.Second) }

// derivedTicketKeys returns the keys of a period, its own first.
func derivedTicketKeys(secret []byte, period int64) (keys []ticketKey) {
	// The one of the next period is for a peer whose clock is ahead.
	for _, p := range []int64{period, period - 1, period + 1} {
		// The error is of lengths that no SHA-256 has (RFC 5869 §2.3).
		key, _ := hkdf.Key(sha256.New, secret, nil, "havip session tickets "+strconv.FormatInt(p, 10), len(ticketKey{}))
		keys = append(keys, ticketKey(key))
	}
	return keys
}

// WrapSession is for tls.Config.
func (k *TicketKeys) WrapSession(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	return k.at(time.Now()).EncryptTicket(state, session)
}

// UnwrapSession is for tls.Config. A ticket of other keys is none.
func (k *TicketKeys) UnwrapSession(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
	return k.at(time.Now()).DecryptTicket(ticket, state)
}
