package admin

import (
	"net/netip"
	"sync"
	"time"
)

// An address may show so many wrong tokens at once, and then one in each guessEvery. Others
// are not concerned: nobody can lock an operator out.
const (
	guessBurst = 10
	guessEvery = 3 * time.Second
	// maxGuessers bounds the addresses that are remembered. The one that was seen least
	// lately gives its place.
	maxGuessers = 1024
)

// guesses counts wrong tokens by address.
type guesses struct {
	mu sync.Mutex // guards what follows; a leaf
	// paid is when the debt of an address is paid: each wrong token adds guessEvery.
	paid map[string]time.Time
}

func newGuesses() guesses { return guesses{paid: map[string]time.Time{}} }

// wait is for how long an address has to wait before it may show another token.
func (g *guesses) wait(address string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	paid, known := g.paid[guessKey(address)]
	if !known {
		return 0
	}
	return paid.Sub(now) - (guessBurst-1)*guessEvery
}

// note counts a wrong token.
func (g *guesses) note(address string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := guessKey(address)
	paid, known := g.paid[key]
	if !known && len(g.paid) >= maxGuessers {
		g.makeRoom(now)
	}
	if paid.Before(now) {
		paid = now
	}
	g.paid[key] = paid.Add(guessEvery)
}

// makeRoom forgets who owes nothing any more, or else who owes least. g.mu is held.
func (g *guesses) makeRoom(now time.Time) {
	var least string
	for key, paid := range g.paid {
		if !paid.After(now) {
			delete(g.paid, key)
		} else if least == "" || paid.Before(g.paid[least]) {
			least = key
		}
	}
	if len(g.paid) >= maxGuessers {
		delete(g.paid, least)
	}
}

// guessKey is the address, or its network where one host has as many as it likes.
func guessKey(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() {
		return address
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
