package report

// Change is what a reload makes, or would make, of what runs.
type Change struct {
	DryRun bool         `json:"dry_run"`
	Parts  []PartChange `json:"parts"` // those that do not stay as they are
	Kept   int          `json:"kept"`  // parts that stay as they are
	// Dropped are the run-time changes that do not outlive it.
	Dropped  []RuntimeChange `json:"dropped,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
}

// PartChange is the fate of one part.
type PartChange struct {
	Kind string `json:"kind"` // router, group, check, service, pool, notify, log, admin, alarm
	Name string `json:"name"`
	Fate string `json:"fate"` // the words of the log: changes in place, starts anew, is new, ends
	// Moves: the addresses of the router move to a peer, or are gone for a moment.
	Moves bool `json:"moves,omitempty"`
	// Cost says in a sentence what that costs; empty: nothing.
	Cost string      `json:"cost,omitempty"`
	Keys []KeyChange `json:"keys,omitempty"`
}

// KeyChange is one key of the file.
type KeyChange struct {
	Key  string `json:"key"`
	From string `json:"from,omitempty"` // a secret is shown as such
	To   string `json:"to,omitempty"`
	// Moves: this key is why the part cannot go on in place.
	Moves bool `json:"moves,omitempty"`
}
