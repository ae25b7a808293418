package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/havip/havip/internal/report"
)

// enter, escape and tab are keys as the browser names them.
func (b *browser) enter() {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}, nil)
	}
}
func (b *browser) escape() { b.t.Helper(); b.press("Escape", "Escape", 27) }
func (b *browser) tab()    { b.t.Helper(); b.press("Tab", "Tab", 9) }

// tabTo goes on from element to element, as a reader without a mouse does.
func (b *browser) tabTo(label string) {
	b.t.Helper()
	for range 60 {
		b.tab()
		var text string
		b.run(`(document.activeElement.getAttribute("aria-label") || document.activeElement.innerText || document.activeElement.id || "").trim()`, &text)
		if text == label {
			return
		}
	}
	b.t.Fatalf("60 times the tab key do not lead to %q", label)
}

// TestPageSteersByKeyboard: who has no mouse logs in, drains, hands over and begins
// maintenance, is asked before each, and logs out.
func TestPageSteersByKeyboard(t *testing.T) {
	f := start(t, nil)
	now := time.Now()
	f.node.change(func(s *report.Status) { *s = *night(now) })
	b := openBrowser(t)
	b.look(1280, 900, false)
	b.open("http://" + f.tcp + "/")
	b.until("drawn", `document.querySelectorAll("#routers article").length == 2`)
	var buttons int
	if b.run(`document.querySelectorAll("button[data-do]").length`, &buttons); buttons != 0 {
		t.Errorf("%d buttons steer before anybody has logged in", buttons)
	}

	b.tabTo("Log in")
	b.enter()
	b.until("the dialog is open", `document.getElementById("enter").open && document.activeElement.id == "token"`)
	b.call("Input.insertText", map[string]any{"text": "a wrong token, really"}, nil)
	b.enter()
	b.until("the wrong token is refused", `document.getElementById("enter-error").innerText.includes("wrong token")`)
	b.run(`document.getElementById("token").value = ""; document.getElementById("token").focus()`, nil)
	b.call("Input.insertText", map[string]any{"text": testToken}, nil)
	b.enter()
	b.until("logged in", `document.querySelector("button[data-do=resign]") && !document.getElementById("logout").hidden`)

	for _, step := range []struct{ button, yes, did string }{
		{"Maintenance", "Begin", `maintenance true "status page"`},
		{"Hand over VI_1", "Hand over", `resign "VI_1"`},
		{"Drain 192.168.31.242:8080", "Drain", `backend "web" "192.168.31.242:8080" {`},
	} {
		b.tabTo(step.button)
		b.enter()
		b.until("it asks", `document.getElementById("ask").open`)
		b.escape()
		b.until("it asks no more", `!document.getElementById("ask").open`)
		if did := f.node.took(); did != "" {
			t.Errorf("%s, and then escape, did %s", step.button, did)
		}
		b.enter() // the button has the focus again
		b.until("it asks again", `document.getElementById("ask").open`)
		b.tabTo(step.yes)
		b.enter()
		var did string
		f.until("it is done", func() bool { did += f.node.took(); return did != "" })
		if !strings.HasPrefix(did, step.did) || strings.Contains(did, "{") && !strings.Contains(did, `"Drain":true`) {
			t.Errorf("%s did %s, want %s", step.button, did, step.did)
		}
	}

	f.node.fails(fmt.Errorf("router VI_1: %w: it is Backup", report.ErrState))
	b.run(`document.querySelector("button[data-do=resign]").focus()`, nil)
	b.enter()
	b.until("it asks", `document.getElementById("ask").open`)
	b.tabTo("Hand over")
	b.enter()
	b.until("a refusal is told", `document.getElementById("ask").open && document.getElementById("ask-text").innerText.includes("it is Backup")`)
	b.escape()
	f.node.fails(nil)

	b.run(`document.getElementById("logout").focus()`, nil)
	b.enter()
	b.until("logged out", `document.getElementById("login") && !document.getElementById("login").hidden && !document.querySelector("button[data-do]")`)
}

// TestPageOfAnotherHost: nothing in a status makes the page run a script, or ends it.
func TestPageOfAnotherHost(t *testing.T) {
	f := start(t, nil)
	evil := `</script><script>window.evil = 1</script><img src=x onerror="window.evil = 2">`
	now := time.Now()
	f.node.change(func(s *report.Status) {
		*s = *night(now)
		s.Node.Host, s.Problems = evil, []string{evil}
		s.Routers[0].Name, s.Routers[0].Cause, s.Routers[0].Deaf = evil, evil, evil
		s.Checks[0].Error, s.Services[0].Pools[0].Backends[0].Error = evil, evil
	})
	f.node.ring.Add(report.Event{Time: now, Kind: report.KindTransition, Level: "info", Message: evil, Router: evil, Cause: evil,
		Attributes: []report.Attribute{{Key: "from", Value: evil}, {Key: "to", Value: evil}}})
	b := openBrowser(t)
	b.open("http://" + f.tcp + "/")
	b.until("drawn", `document.querySelectorAll("#routers article").length == 2`)
	var is bool
	if b.run(`window.evil === undefined && document.title.includes("onerror") && document.querySelectorAll("img").length == 0`, &is); !is {
		t.Error("what a status says is taken for more than text")
	}
	for _, trouble := range b.trouble() {
		t.Error(trouble)
	}
}
