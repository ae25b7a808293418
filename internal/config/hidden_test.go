package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// marker is what each secret of these tests has in it: letters or, where a number is
// wanted, digits.
var marker = regexp.MustCompile(`(?i)s3cr3t|marker|90210`)

// unknownName is what is said of the name of a key, and of the name of a check, which a
// key may become that a slip of the hand moves to the left.
var unknownName = regexp.MustCompile(`[\w.[\]]*: (unknown key|given twice)|\bchecks\.\w+`)

// wrongShapes are ways to get a secret's value, and the YAML around it, wrong. They
// are put behind "key:", IND is the indentation of the key, and KEY the key.
var wrongShapes = []string{
	` s3cr3t-MARKER`, ` s3cr3tMARKER`, ` 90210`, ` "90210"`, ` 90210.5s`, ` s3cr3t MARKER`, ` 's3cr3t-MARKER'`, ` "s3cr3t-MARKER"`, ` "s3cr3t\nMARKER"`, ` "s3cr3t\0MARKER"`,
	` /s3cr3t-MARKER`, ` s3cr3t/MARKER`, ` s3cr3t: MARKER`, ` s3cr3t:MARKER`, `s3cr3t-MARKER`, `s3cr3t: MARKER`, ` Authorization: Bearer s3cr3t`, ` 'Authorization: Bearer s3cr3t'`,
	` [s3cr3t-MARKER]`, ` [s3cr3t-MARKER`, ` s3cr3t-MARKER]`, ` [[s3cr3t]]`, ` [{s3cr3t: MARKER}]`, ` [s3cr3t: MARKER]`, ` [{id: 90210, secret: s3cr3t}]`, ` [{id: 1, secret: [s3cr3t]}]`,
	` {s3cr3t-MARKER}`, ` {s3cr3t: MARKER}`, ` {s3cr3t: MARKER`, ` {s3cr3t:MARKER}`, ` {"s3cr3t": "MARKER"}`, ` {x: {s3cr3t: MARKER}}`, ` {? s3cr3t : MARKER}`, ` {[s3cr3t]: MARKER}`,
	` {type: s3cr3t}`, ` {type: [s3cr3t]}`, ` {type: pass, s3cr3t}`, ` {type: pass, secret:s3cr3t}`, ` {type: pass, secret: [s3cr3t]}`, ` {type: pass, secret: {s3cr3t: MARKER}}`, ` {type: pass, secret: !s3cr3t x}`,
	` {type: ah, secret: s3cr3t-MARKER, mode: s3cr3t}`, ` {type: hmac, keys: [s3cr3t-MARKER]}`, ` {type: hmac, keys: s3cr3t-MARKER}`, ` {type: hmac, keys: {s3cr3t: MARKER}}`, ` {type: hmac, keys: [{id: 90210, secret: s3cr3t}], active_key: 90210}`,
	` {type: hmac, keys: [{id: 7, secret: s3cr3t}, {id: 7, secret: MARKER}], active_key: 90, window: 90210, replay: s3cr3t}`,
	` {Authorization: [s3cr3t]}`, ` {Authorization: "s3cr3t\nMARKER"}`, ` {Authorization: s3cr3t, authorization: MARKER}`, ` {"s3cr3t MARKER": x}`, ` {X: "${s3cr3t}"}`, ` {X: "${s3cr3t"}`, ` {Host: s3cr3t}`, ` {s3cr3t: x, S3CR3T: y}`,
	` {<<: s3cr3t}`, ` {<<: [s3cr3t, MARKER]}`, ` {<<: {s3cr3t: MARKER}}`, ` {s3cr3t: x, s3cr3t: y}`,
	` !s3cr3t x`, ` !!s3cr3t x`, ` !<s3cr3t> x`, ` !!int s3cr3t`, ` !!binary s3cr3t`, ` !!float 90210`, ` !s3cr3t`, ` !s3cr3t [MARKER]`, ` !`, ` &s3cr3t MARKER`, ` &s3cr3t`, ` *s3cr3t`, ` &a *s3cr3t`, ` &s3cr3t [*s3cr3t]`,
	" |\nIND  s3cr3t\nIND  MARKER", " |\ns3cr3t", " >-\nIND  s3cr3t MARKER", " |9\nIND s3cr3t", " |s3cr3t", "\nIND  s3cr3t\nIND  MARKER", "\nIND  s3cr3t: MARKER", "\nIND  - s3cr3t", "\nIND- s3cr3t", "\ns3cr3t", "\nIND s3cr3t MARKER", " x\nIND s3cr3t",
	"\ts3cr3t", "\n\ts3cr3t", "\nIND\ts3cr3t: x", "\nIND  ? s3cr3t\nIND  : MARKER", "\nIND  ? [s3cr3t]", "\nIND  type: pass\nIND  secret:s3cr3t", "\nIND  type: pass\nIND   secret: s3cr3t", "\nIND  type: pass\nIND secret: s3cr3t", "\nIND  type:pass\nIND  secret: s3cr3t",
	` 's3cr3t`, ` "s3cr3t`, ` 's3cr3t' MARKER`, ` "s3cr3t" "MARKER"`, ` "\s3cr3t"`, ` "\xs3cr3t"`, " @s3cr3t", " `s3cr3t", ` %s3cr3t`, ` - s3cr3t`, ` ? s3cr3t`, ` , s3cr3t`, ` # s3cr3t`, "\n%s3cr3t", "\n--- s3cr3t", "\n... s3cr3t", " x\n--- {s3cr3t: x}",
	` env:s3cr3t-MARKER`, ` env:S3CR3T`, ` env:`, ` file:s3cr3t`, ` file:/s3cr3t/MARKER`, ` file:`, ` hex:s3cr3t`, ` hex:90210`, ` {type: pass, secret: "env:S3CR3T"}`, ` {type: pass, secret: "file:s3cr3t"}`, ` {type: pass, secret: "hex:90210"}`,
	` http://user:s3cr3t@192.0.2.7/`, ` ftp://192.0.2.7/?token=s3cr3t`, ` http://s3cr3t`, ` user:s3cr3t@192.0.2.7:80`, " s3cr3t\nINDKEY: MARKER", " s3cr3t\nINDKEY s3cr3t", ` s3cr3t, name: x`,
}

// places are the mappings of a file, each as the lines above its keys, the
// indentation of these, and its table.
type mapping struct {
	title, above, indent string
	keys                 []key
}

func mappings() []mapping {
	tables := make(map[string][]key)
	walk("", "", new(Config).keys(), func(title string, keys []key) {
		place, _, _ := strings.Cut(title, " ")
		if tables[place] == nil {
			tables[place] = keys
		}
	})
	var all []mapping
	walk("", "", new(Config).keys(), func(title string, keys []key) {
		m := mapping{title: title, keys: keys}
		place, label, _ := strings.Cut(title, " ")
		so := ""
		for part := range strings.FieldsFuncSeq(place, func(r rune) bool { return r == '.' }) {
			name, listed := strings.CutSuffix(part, "[]")
			so = strings.TrimPrefix(so+"."+part, ".")
			m.above += m.indent + name + ":\n"
			m.indent += "  "
			if listed {
				m.above += m.indent + "-\n"
				m.indent += "  "
			}
			if so != place {
				m.above += requiredKeys(tables[so], m.indent, "")
			}
		}
		m.above += requiredKeys(keys, m.indent, strings.TrimPrefix(label, "of type "))
		all = append(all, m)
	})
	return all
}

// requiredKeys are the lines of the plain keys that a mapping cannot be without.
func requiredKeys(keys []key, indent, kind string) (lines string) {
	for _, k := range keys {
		switch {
		case k.hidden:
		case k.name == "type" && kind != "":
			lines += indent + "type: " + kind + "\n"
		case k.required && k.value.sections() == nil:
			lines += indent + k.name + ": " + k.example + "\n"
		}
	}
	return lines
}

func (m mapping) with(name, shape string) string {
	return m.above + m.indent + name + ":" + strings.NewReplacer("IND", m.indent, "KEY", name).Replace(shape) + "\n"
}

// TestHiddenKeys: these are the keys whose values may be, or hold, secrets. Who adds
// another marks its row.
func TestHiddenKeys(t *testing.T) {
	names.once.Do(readNames)
	want := []string{"add_request_headers", "add_response_headers", "auth", "environment", "headers", "keys", "password", "path", "proxy", "request_headers", "response_headers", "secret", "send", "session_ticket_secret", "token", "url", "webhook"}
	if got := slices.Sorted(maps.Keys(names.hidden)); !slices.Equal(got, want) {
		t.Errorf("hidden are %v, want %v", got, want)
	}
}

// TestNoMessageShowsASecret: whatever is wrong with a key that is marked as hidden,
// or with the YAML around it, no error and no warning tells its value.
func TestNoMessageShowsASecret(t *testing.T) {
	t.Parallel()
	names.once.Do(readNames)
	tried, leaks := 0, 0
	try := func(document string) {
		t.Helper()
		c, err := Parse("f.yaml", []byte(document))
		said := fmt.Sprint(err)
		if err == nil {
			said = fmt.Sprint(c.Warnings, c.OnHost(fakeHost()))
		}
		tried++
		// The name of a key is told where it does not stand under a hidden one.
		said = unknownName.ReplaceAllString(said, "")
		if marker.MatchString(said) && leaks < 20 {
			leaks++
			t.Errorf("of\n%s\nit is said:\n%s", document, said)
		}
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	try("checks:\n  NAME:\n    type: http\n    headers:\n  ! \ts3cr3t: x\n")
	done := make(map[string]bool)
	for _, m := range mappings() {
		for name := range names.hidden {
			here := slices.ContainsFunc(m.keys, func(k key) bool { return k.name == name })
			place, _, _ := strings.Cut(m.title, " ") // whatever the type
			if here && done[place+name] {
				continue
			}
			done[place+name] = here
			rarely := 1
			if !here { // where the key does not belong
				rarely = 41
			}
			if testing.Short() {
				rarely *= 4
			}
			for _, shape := range wrongShapes {
				if random.IntN(rarely) > 0 {
					continue
				}
				document := m.with(name, shape)
				try(document)
				if !here {
					continue
				}
				// What other keys reach by an alias.
				aliases := m.with(name, " &anchor"+shape)
				for _, k := range m.keys {
					if k.name != name {
						aliases += m.indent + k.name + ": *anchor\n"
					}
				}
				switch top := "log: {level: *anchor, format: [*anchor]}\n"; random.IntN(8) {
				case 0:
					try(aliases)
				case 1:
					try(m.with(name, " &anchor"+shape) + m.indent + "<<: *anchor\n" + top)
				case 2:
					try(m.with(name, " &anchor"+shape) + m.indent + "*anchor : x\n" + top)
				}
				// A slip of the hand.
				at := strings.Index(document, name+":") - random.IntN(3)
				at += random.IntN(len(document) - at)
				slip := string(" :-,'\"{}[]#&*!|>%@\t"[random.IntN(19)])
				switch random.IntN(8) {
				case 0:
					try(document[:at] + slip + document[at:])
				case 1:
					try(document[:at] + slip + document[at+1:])
				case 2:
					try(document[:at] + document[at+1:])
				}
			}
		}
	}
	t.Logf("%d documents", tried)
}
