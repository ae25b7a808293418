package admin

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/havip/havip/internal/lab"
)

// browserTime bounds each thing that is waited for: a browser on a busy machine takes its
// time.
const browserTime = time.Minute

// browser is a headless Chromium with one page, spoken to over a pipe by the DevTools
// protocol.
type browser struct {
	t       *testing.T
	to      *os.File
	session string // of the page

	mu       sync.Mutex
	last     int
	waiting  map[int]chan reply
	loaded   chan struct{}
	troubles []string // errors of scripts and of the security policy
	gone     chan struct{}
}

// reply is what the browser answers to one call.
type reply struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// openBrowser starts Chromium, which talks to nobody but the pages that it is told to load.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	lab.Need(t, "chromium")
	fromUs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--disable-extensions", "--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // file descriptors 3 and 4 of the browser
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	b := &browser{t: t, to: to, waiting: map[int]chan reply{}, loaded: make(chan struct{}, 8), gone: make(chan struct{})}
	t.Cleanup(func() {
		to.Close() // ends the browser
		select {
		case <-b.gone:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
		}
		cmd.Wait()
		from.Close()
		for range 20 { // its helpers may still be writing
			if os.RemoveAll(dir) == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	go b.listen(from)
	b.attach()
	return b
}

// attach opens a session with a page.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
}

// listen takes what the browser says until it ends.
func (b *browser) listen(from *os.File) {
	defer close(b.gone)
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m reply
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		answer := b.waiting[m.ID]
		delete(b.waiting, m.ID)
		switch m.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded":
			b.troubles = append(b.troubles, string(m.Params))
		case "Page.loadEventFired":
			select {
			case b.loaded <- struct{}{}:
			default:
			}
		}
		b.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
}

// call makes one call and stores its result.
func (b *browser) call(method string, params any, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *browser) try(method string, params any, result any) error {
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.waiting[id] = answer
	b.mu.Unlock()
	message := map[string]any{"id": id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, _ := json.Marshal(message)
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-b.gone:
		return errors.New("the browser has ended")
	case <-time.After(browserTime):
		return errors.New("no answer")
	}
}

// look sets the size of the window, and whether the reader likes it dark.
func (b *browser) look(width, height int, dark bool) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	select {
	case <-b.loaded:
	case <-time.After(browserTime):
		b.t.Fatalf("%s is not loaded", url)
	}
}

// run evaluates an expression, which may be a promise, and stores its value.
func (b *browser) run(expression string, value any) {
	b.t.Helper()
	if err := b.evaluate(expression, value); err != nil {
		b.t.Fatalf("%.80s: %v", expression, err)
	}
}

func (b *browser) evaluate(expression string, value any) error {
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	err := b.try("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	switch {
	case err != nil:
		return err
	case r.ExceptionDetails != nil:
		return errors.New(string(r.ExceptionDetails))
	case value == nil:
		return nil
	}
	return json.Unmarshal(r.Result.Value, value)
}

// until waits for an expression to be true. The page may be loaded anew meanwhile.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	lab.Eventually(b.t, browserTime, what, func() error {
		var now bool
		if err := b.evaluate("Boolean("+expression+")", &now); err != nil || now {
			return err
		}
		var text string
		_ = b.evaluate("document.body.innerText", &text) // for the message
		return fmt.Errorf("the page says %.4000s", text)
	})
}

// press sends a key.
func (b *browser) press(key, code string, number int) {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number}, nil)
	}
}

// picture saves a screenshot where -page.pictures says.
func (b *browser) picture(name string) {
	b.t.Helper()
	if *pictures == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(*pictures, name+".png"), data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// trouble returns what scripts and the security policy complained about so far.
func (b *browser) trouble() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.troubles...)
}
