package vrrp

import (
	"encoding"
	"fmt"
	"testing"
)

// Each value of an enumeration has its own word, which says the same in a
// configuration file, in JSON and in the log; others have none.
func TestEnumerationsAreWords(t *testing.T) {
	checkWords(t, []AuthType{AuthNone, AuthPass, AuthAH, AuthHMAC}, "none pass ah hmac")
	checkWords(t, []ChecksumForm{ChecksumPseudoHeader, ChecksumMessage, ChecksumOldUnicast}, "pseudo-header message-only old-unicast")
	checkWords(t, []HMACMode{HMACEnforce, HMACPermissive, HMACReceiveOnly}, "enforce permissive receive-only")
	checkWords(t, []ReplayMode{ReplayTime, ReplayMonotonic}, "time monotonic")
	checkWords(t, []State{Initialize, Backup, Active}, "Initialize Backup Active")
	checkWords(t, []ActionKind{Send, Acquire, Announce, Release, Changed}, "Send Acquire Announce Release Changed")
	var reasons []DropReason
	for r := range numDropReasons - 1 {
		reasons = append(reasons, r+1)
	}
	checkWords(t, reasons, "")
	var causes []Cause
	for c := range numCauses - 1 {
		causes = append(causes, c+1)
	}
	checkWords(t, causes, "")
}

// checkWords checks all values of an enumeration against their words, if the
// test gives them.
func checkWords[T interface {
	~uint8
	fmt.Stringer
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, values []T, want string) {
	t.Helper()
	if got := fmt.Sprint(values); want != "" && got != "["+want+"]" {
		t.Errorf("got %s, want [%s]", got, want)
	}
	seen := map[string]bool{}
	for _, v := range values {
		text, err := v.MarshalText()
		back := T(255)
		if err == nil {
			err = P(&back).UnmarshalText(text)
		}
		if err != nil || back != v || seen[v.String()] || string(text) != v.String() {
			t.Errorf("%T %d: word %q, read back as %d: %v", v, v, text, back, err)
		}
		seen[v.String()] = true
	}
	last := values[len(values)-1]
	none, name := last+1, fmt.Sprintf("%T(%d)", last, last+1)[len("vrrp."):]
	if none.String() != name || P(&none).UnmarshalText([]byte(name)) == nil || none != last+1 {
		t.Errorf("%T past the last: %v, want %s, which is no word", last, none, name)
	}
}
