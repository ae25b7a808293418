package report

// Explanation says why a node has an address or not.
type Explanation struct {
	Address string `json:"address"`
	Router  string `json:"router"` // that has it in its list
	// Held: it is on this node's interface.
	Held bool `json:"held"`
	// Sentences: the answer first, and its cause; then what supports it.
	Sentences []string `json:"sentences"`
	// Next is what to look at, or to do, the likeliest first.
	Next []string `json:"next,omitempty"`
}
