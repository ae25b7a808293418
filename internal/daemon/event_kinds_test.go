package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/havip/havip/internal/report"
)

// madeMessages are the messages that lines get from an expression in the place of a
// literal, by package and expression. A message that ends in a colon is a beginning.
var madeMessages = map[string][]string{
	"vrrp what": {
		"fault", "waiting", "addresses acquired", "addresses released",
		"the addresses of a router here are advertised with another VRID: one of the two is wrong",
		"a peer advertises with another VRID: one of the two may be wrong",
	},
	"vrrp splitMessage":                   {"split: another router is Active as well"},
	"vrrp text":                           nil, // see those of log and say in vrrp/reconfigure.go
	"vrrp msg":                            nil, // warnOften, whose calls are looked at
	"vrrp what + \" than before: \" + so": {"quite other addresses than before: ", "another interval than before: "},
	"vrrp \"peers instead of multicast, or the reverse: \" + unheard": {"peers instead of multicast, or the reverse: "},
	"vrrp \"another password than before: \" + unheard":               {"another password than before: "},
	"vip msg":             nil, // warnOften, whose calls are looked at
	"vip failed":          {"watching addresses failed", "listening for other hosts failed"},
	"vip conflictMessage": {"another host claims an address that is held here"},
	"healthcheck \"check is \" + m.core.State.String()": {"check is up", "check is down", "check is unknown"},
	"daemon what": {"notify program cannot be run", "program of a check cannot be run"},
	"guard \"guard: the guarded process has died: \" + what": nil, // the guard's own process has its own log
	"node w.Error()": nil, // a warning of the configuration is an event as such
}

// notLogged are calls that have the name of a method of loggers and are none.
var notLogged = map[string]bool{
	"errors.Log": true,
}

// message is a message of a line at Info or above, and where it is logged.
type message struct {
	text string
	at   token.Position
}

// messages collects those of a folder's lines.
func messages(t *testing.T, folder string) (all []message) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if arg := messageOf(n); arg != nil {
				all = append(all, resolve(t, file.Name.Name, files.Position(n.Pos()), arg)...)
			}
			return true
		})
	}
	return all
}

// messageAt is which argument of a function that logs is the message.
var messageAt = map[string]int{
	"Info": 0, "Warn": 0, "Error": 0, "warnOften": 0, "say": 0, "Log": 2, "LogAttrs": 2, "log": 1,
}

// messageOf is the message of a call that logs a line; nil: n is no such call.
func messageOf(n ast.Node) ast.Expr {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	name, at := "", 0
	ok = false
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		name = f.Sel.Name
		at, ok = messageAt[name]
		ok = ok && name != "log" && name != "say"
	case *ast.Ident:
		name = f.Name
		at, ok = messageAt[name]
		if name == "warnOften" { // of vip: its first argument is the logger
			at = 1
		}
	}
	if !ok || len(call.Args) <= at || notLogged[types.ExprString(call.Fun)] {
		return nil
	}
	return call.Args[at]
}

// resolve returns the messages that an expression stands for.
func resolve(t *testing.T, pkg string, at token.Position, arg ast.Expr) (all []message) {
	t.Helper()
	if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, _ := strconv.Unquote(lit.Value)
		if pkg == "vrrp" && strings.HasSuffix(at.Filename, "reconfigure.go") && !strings.Contains(text, "than before") {
			return nil // say puts an end to it, see madeMessages
		}
		return []message{{text, at}}
	}
	key := pkg + " " + types.ExprString(arg)
	texts, known := madeMessages[key]
	if !known {
		t.Errorf("%v: messages of %q are not known: add them to madeMessages", at, key)
	}
	for _, text := range texts {
		all = append(all, message{text, at})
	}
	return all
}

// TestEveryLineHasItsKind: whoever adds a line at Info or above says whether it is an
// event, and of which kind.
func TestEveryLineHasItsKind(t *testing.T) {
	found := map[string]bool{}
	for _, folder := range []string{
		"vrrp", "vip", "vip/failover", "vip/guard", "vip/filter", "healthcheck", "lb", "lb/internal/reactor", "internal/alarm", "internal/daemon", "internal/node", "internal/admin", "internal/alarm", "internal/admin",
	} {
		for _, m := range messages(t, filepath.Join("../..", folder)) {
			found[m.text] = true
			if !hasKind(m.text) && !strings.HasPrefix(m.text, "guard: ") { // of the guard's own process
				t.Errorf("%v: message %q is not in eventKinds", m.at, m.text)
			}
		}
	}
	if len(found) < 80 {
		t.Errorf("only %d messages are found: this test has lost sight of them", len(found))
	}
	for text := range eventKinds {
		if !found[text] {
			t.Errorf("eventKinds has %q, which nobody logs", text)
		}
	}
	for _, b := range eventBeginnings {
		if !found[b.beginning] && !hasBeginning(found, b.beginning) {
			t.Errorf("eventBeginnings has %q, which nobody logs", b.beginning)
		}
	}
}

func hasKind(text string) bool {
	if _, ok := eventKinds[text]; ok {
		return true
	}
	return kindOf(text, slog.LevelInfo) != noEvent
}

func hasBeginning(found map[string]bool, beginning string) bool {
	for text := range found {
		if strings.HasPrefix(text, beginning) {
			return true
		}
	}
	return false
}

// TestUnknownLines: what nobody knows is an event if it is a warning.
func TestUnknownLines(t *testing.T) {
	if k := kindOf("?", slog.LevelInfo); k != noEvent {
		t.Errorf("an unknown line is %q", k)
	}
	if k := kindOf("?", slog.LevelWarn); k != report.KindOther {
		t.Errorf("an unknown warning is %q", k)
	}
}
