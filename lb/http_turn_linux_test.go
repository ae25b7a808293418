package lb

import (
	"reflect"
	"testing"
	"time"
)

// TestTurnForgets: a turn that waits for another request leads to no configuration, and has no
// password of the one before.
func TestTurnForgets(t *testing.T) {
	cfg := HandlerConfig{Pool: newPool(t, PoolConfig{Backends: []Backend{{Address: "192.0.2.1:80"}}}), Rules: Rules{Auth: &BasicAuth{Users: users(t, htpasswdText())}},
		Routes: []Route{{Name: "r", Paths: []string{"~ ^/(.*)"}}}}
	turn := new(httpTurn)
	origin := newRequestOrigin(testOrigin.client, testOrigin.local, nil)
	x := &turn.x
	x.open(newHandlerSettings(cfg), new(counters), &origin, parsedRequest(t, asked("/a", basic("sha", "secret"))), time.Now())
	if x.refusal() != 0 || x.decide() != awaitHere || x.claim.password != "secret" || x.route == nil || x.matched == nil {
		t.Fatalf("claim %v, route %v", x.claim, x.route)
	}
	turn.reset()
	memory := map[string]bool{"fields": true, "answer": true, "text": true, "options": true, "trailers": true, "upgrades": true, "announced": true, "reply": true}
	for v, i := reflect.ValueOf(*x), 0; i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; !memory[name] && !v.Field(i).IsZero() {
			t.Errorf("exchange.%s stays", name)
		}
	}
	if x.reply.content != nil || len(x.fields)+len(x.answer)+len(x.text)+len(x.reply.fields) > 0 {
		t.Errorf("what is answered stays: %+v", x.reply)
	}
}
