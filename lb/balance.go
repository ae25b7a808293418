package lb

import (
	"fmt"
	"slices"

	"github.com/havip/havip/internal/words"
)

// Balance is a way of choosing among the available backends.
type Balance string

// The balancers. Those that hash give the same answer on every node that is
// configured with the same backends and sees the same ones up and none of them
// draining; when a backend goes, only the clients that it had move. What only one
// node knows is excepted: while a backend is ejected there, in slow start or at its
// MaxConns, that node sends clients of this backend elsewhere.
const (
	// RoundRobin is nginx's smooth weighted round-robin: with weights 5, 1, 1
	// the order is a a b a c a a.
	RoundRobin Balance = "round-robin"
	// LeastConn takes the backend with the fewest connections for its weight,
	// ties in RoundRobin's order. In slow start the weight grows. Of more than 256
	// it looks at another 256 each time; PowerOfTwo does nearly as well at less cost.
	LeastConn Balance = "least-conn"
	// PowerOfTwo takes the less loaded of two backends chosen at random, loaded as
	// for LeastConn.
	PowerOfTwo Balance = "power-of-two"
	// Random takes any backend, with probability by weight.
	Random Balance = "random"
	// SourceHash ties a client's address to a backend.
	SourceHash Balance = "source-hash"
	// KeyHash ties Flow.Key to a backend.
	KeyHash Balance = "key-hash"
	// Maglev ties a flow, the client's address and port, to a backend.
	Maglev Balance = "maglev"
)

// hashes tells whether b needs a lookup table.
func (b Balance) hashes() bool { return b == SourceHash || b == KeyHash || b == Maglev }

// balances are all of them.
var balances = []string{
	string(RoundRobin), string(LeastConn), string(PowerOfTwo), string(Random), string(SourceHash), string(KeyHash), string(Maglev),
}

// UnmarshalText implements encoding.TextUnmarshaler. It refuses what is no Balance.
// No text is the default.
func (b *Balance) UnmarshalText(text []byte) error {
	if len(text) > 0 && !slices.Contains(balances, string(text)) {
		return fmt.Errorf("%q: want %s", text, words.Choice(balances))
	}
	*b = Balance(text)
	return nil
}
