package alarm

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// What Alertmanager is told lasts until its endsAt, unless it is told again. A havip that
// is gone tells nothing: its alarms end.
const (
	// alertRefresh is how often what lasts is told: as often as Prometheus does it.
	alertRefresh = time.Minute
	// alertLife is for how long it counts then, as with Alertmanager's resolve_timeout.
	alertLife = 5 * time.Minute
	// alertPath is where version 2 of the API takes alerts.
	alertPath = "/api/v2/alerts"
)

// alert is one of the API's postableAlert
// (https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml).
type alert struct {
	// Labels are the alert's identity: an end has the same labels as its beginning.
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// alertBody is a notice for Alertmanager, of which now is the time of sending.
func alertBody(n *Notice, now time.Time) ([]byte, error) {
	alerts := []alert{}
	for i := range n.Alarms {
		a := &n.Alarms[i]
		out := alert{
			Labels: map[string]string{"alertname": alertName(a.Kind), "job": "havip", "instance": n.Host,
				"kind": a.Kind, "key": a.Key, "severity": a.Severity},
			Annotations: map[string]string{"summary": n.Host + ": " + a.Summary},
			StartsAt:    a.Since,
			EndsAt:      now.Add(alertLife),
		}
		if !a.Until.IsZero() {
			out.EndsAt = a.Until
		}
		if len(a.Events) > 0 {
			out.Annotations["description"] = strings.Join(a.details(), "\n")
		}
		// An end before the beginning is refused, whatever clock has gone back.
		if out.EndsAt.Before(out.StartsAt) {
			out.StartsAt = out.EndsAt
		}
		alerts = append(alerts, out)
	}
	return json.Marshal(alerts)
}

// alertName is HavipSplit for the kind split.
func alertName(kind string) string { return "Havip" + strings.ToUpper(kind[:1]) + kind[1:] }

// alertURL is where alerts go, if base says no more than which server.
func alertURL(base string) string {
	u, err := url.Parse(base)
	if err != nil || strings.HasSuffix(u.Path, alertPath) {
		return base
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + alertPath
	return u.String()
}
