package lb

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/GehirnInc/crypt"
	_ "github.com/GehirnInc/crypt/apr1_crypt" // what openssl passwd -apr1 and htpasswd make
	_ "github.com/GehirnInc/crypt/md5_crypt"
	_ "github.com/GehirnInc/crypt/sha256_crypt"
	_ "github.com/GehirnInc/crypt/sha512_crypt"
	"golang.org/x/crypto/bcrypt"
)

// Htpasswd are users and the hashes of their passwords. See ParseHtpasswd.
type Htpasswd struct {
	hashes map[string]string
	decoys []decoy  // of all costs that there are: who is refused costs all of them
	digest [32]byte // SHA-256 of the text

	key      [32]byte // of the process
	mu       sync.Mutex
	verified map[loginKey]struct{} // of logins that were right; mu guards it
	waiting  int                   // how many logins have had no turn: see loginGate, which guards it
}

// loginKey tells logins from one another. It is an HMAC.
type loginKey [32]byte

// decoy is a hash in the place of one that a user does not have.
type decoy struct {
	class string // see hashClass
	hash  string // the costliest one of the class
	cost  int
}

const (
	maxUsers    = 100_000
	maxVerified = 4096
	// maxCost bounds the cost of a bcrypt hash, of which each step doubles the time: 14 takes
	// about a second.
	maxCost = 14
	// maxRounds bounds those of SHA-crypt, where 5000 are usual.
	maxRounds = 200_000
)

// ParseHtpasswd reads a file as Apache's htpasswd and "openssl passwd" make it: a line with
// user:hash for each user, and maybe another colon and a comment; empty lines, and those that
// begin with #, do not count. Hashes are those of nginx's auth_basic_user_file: bcrypt ($2y$,
// up to cost 14), $apr1$, $1$, $5$ and $6$ of crypt, {SHA} and {SSHA}; but neither those of
// DES nor plain text. Up to 1 MiB and 100,000 lines. The error names the line, and never what
// stands there.
func ParseHtpasswd(data []byte) (*Htpasswd, error) {
	if len(data) > MaxRuleFile {
		return nil, fmt.Errorf("htpasswd: %d bytes: want at most %d", len(data), MaxRuleFile)
	}
	h := &Htpasswd{hashes: make(map[string]string), verified: make(map[loginKey]struct{}), digest: sha256.Sum256(data)}
	if _, err := rand.Read(h.key[:]); err != nil {
		return nil, err
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		user, rest, ok := strings.Cut(text, ":")
		hash, _, _ := strings.Cut(rest, ":")
		cost, err := hashCost(hash)
		_, twice := h.hashes[user]
		switch {
		case n > maxUsers:
			err = fmt.Errorf("want at most %d lines", maxUsers)
		case !ok || user == "":
			err = fmt.Errorf("want user:hash, as htpasswd -B makes it")
		case twice:
			err = fmt.Errorf("want one line for a user: there is another one above")
		}
		if err != nil {
			return nil, fmt.Errorf("htpasswd: line %d: %w", n, err)
		}
		h.hashes[user] = hash
		h.addDecoy(hash, cost)
	}
	return h, nil
}

// Len returns the number of users.
func (h *Htpasswd) Len() int {
	if h == nil {
		return 0
	}
	return len(h.hashes)
}

// hashCost returns how much work a hash is, to be compared with others; or why it is none.
func hashCost(hash string) (int, error) {
	unsupported := fmt.Errorf("want a hash by bcrypt, as htpasswd -B makes it, or $apr1$, $1$, $5$, $6$, {SHA} or {SSHA}: others are not supported, nor is plain text")
	switch {
	case strings.HasPrefix(hash, "$2"):
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil || len(hash) != 60:
			return 0, fmt.Errorf("want a whole hash of bcrypt, of 60 characters")
		case cost > maxCost:
			return 0, fmt.Errorf("bcrypt of cost %d: want at most %d", cost, maxCost)
		}
		return 1 << 20 << cost, nil
	case strings.HasPrefix(hash, "{SHA}"):
		if b, err := base64.StdEncoding.DecodeString(hash[len("{SHA}"):]); err != nil || len(b) != sha1.Size {
			return 0, fmt.Errorf("want 20 bytes in base64 after {SHA}")
		}
		return 0, nil
	case strings.HasPrefix(hash, "{SSHA}"):
		if b, err := base64.StdEncoding.DecodeString(hash[len("{SSHA}"):]); err != nil || len(b) <= sha1.Size {
			return 0, fmt.Errorf("want 20 bytes and a salt in base64 after {SSHA}")
		}
		return 0, nil
	case !crypt.IsHashSupported(hash):
		return 0, unsupported
	}
	parts := strings.Split(hash, "$") // "", kind, maybe rounds, salt, digest
	if len(parts) < 4 || parts[len(parts)-1] == "" || parts[len(parts)-2] == "" {
		return 0, fmt.Errorf("want salt and digest after $%s$", parts[1])
	}
	rounds := 1000
	if parts[1] == "5" || parts[1] == "6" {
		rounds = 5000
		if text, ok := strings.CutPrefix(parts[2], "rounds="); ok {
			var err error
			if rounds, err = strconv.Atoi(text); err != nil || rounds > maxRounds || len(parts) < 5 {
				return 0, fmt.Errorf("want at most %d rounds", maxRounds)
			}
		}
	}
	return rounds, nil
}

// hashClass names hashes that take the same time, but for SHA-crypt within a factor of two.
func hashClass(hash string, cost int) string {
	kind, _, _ := strings.Cut(hash[1:], "$")
	if strings.HasPrefix(kind, "2") {
		kind = "2" // 2a, 2b and 2y are the same
	}
	return kind + "$" + strconv.Itoa(bits.Len(uint(cost)))
}

// addDecoy has h know of a valid hash what it costs.
func (h *Htpasswd) addDecoy(hash string, cost int) {
	if cost == 0 {
		return // nobody sees it from outside
	}
	d := decoy{hashClass(hash, cost), hash, cost}
	switch i := slices.IndexFunc(h.decoys, func(other decoy) bool { return other.class == d.class }); {
	case i < 0:
		h.decoys = append(h.decoys, d)
	case h.decoys[i].cost < cost:
		h.decoys[i] = d
	}
}

// loginKey is how a login is remembered. No password can be told from it.
func (h *Htpasswd) loginKey(user, password string) (key loginKey) {
	mac := hmac.New(sha256.New, h.key[:])
	fmt.Fprintf(mac, "%d:%s%s", len(user), user, password)
	mac.Sum(key[:0])
	return key
}

// knows reports whether a login has been found right before.
func (h *Htpasswd) knows(user, password string) bool {
	key := h.loginKey(user, password)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.verified[key]
	return ok
}

// work returns the hash of a user, empty if there is none, and those that a password is compared
// with for nothing if that one is not its hash. They take the same time for all users.
func (h *Htpasswd) work(user string) (hash string, decoys []string) {
	class := ""
	if hash = h.hashes[user]; hash != "" {
		if cost, _ := hashCost(hash); cost > 0 { // valid
			class = hashClass(hash, cost)
		}
	}
	for _, d := range h.decoys {
		if d.class != class {
			decoys = append(decoys, d.hash)
		}
	}
	return hash, decoys
}

// verify reports whether a login is right. One that is not takes the same time whether the user
// is known or not, and whatever hash there is.
func (h *Htpasswd) verify(user, password string) bool {
	hash, decoys := h.work(user)
	if !matches(hash, password) {
		for _, d := range decoys {
			matches(d, password)
		}
		return false
	}
	key := h.loginKey(user, password)
	h.mu.Lock()
	defer h.mu.Unlock()
	for old := range maps.Keys(h.verified) {
		if len(h.verified) < maxVerified {
			break
		}
		delete(h.verified, old) // any
	}
	h.verified[key] = struct{}{}
	return true
}

// matches reports whether a valid hash is that of a password.
func matches(hash, password string) bool {
	switch {
	case hash == "":
		return false
	case strings.HasPrefix(hash, "$2"):
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
	case strings.HasPrefix(hash, "{SHA}"):
		return matchesSHA(hash[len("{SHA}"):], password)
	case strings.HasPrefix(hash, "{SSHA}"):
		return matchesSHA(hash[len("{SSHA}"):], password)
	}
	return crypt.NewFromHash(hash).Verify(hash, []byte(password)) == nil
}

// matchesSHA is matches for SHA-1 of a password and the salt that follows the digest.
func matchesSHA(encoded, password string) bool {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) < sha1.Size {
		return false
	}
	sum := sha1.Sum(append([]byte(password), b[sha1.Size:]...))
	return subtle.ConstantTimeCompare(sum[:], b[:sha1.Size]) == 1
}
