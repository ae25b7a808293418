package config

import (
	"fmt"

	"github.com/havip/havip/internal/alarm"
)

// Receiver is the name under which an Alarm can embed its configuration.
type Receiver = alarm.Config

// Alarm is who is told of what happens: the configuration of a receiver, but for the
// secrets, which AlarmConfig adds.
type Alarm struct {
	Pos      Position
	Receiver `json:"-"`
	// Webhook is a URL. Whoever has that of Slack may write there.
	Webhook  Secret
	Token    Secret // of the webhook
	Password Secret // of Email
}

// AlarmConfig is what package alarm needs.
func (a *Alarm) AlarmConfig() alarm.Config {
	c := a.Receiver
	c.Webhook, c.Token, c.Email.Password = a.Webhook.Reveal(), a.Token.Reveal(), a.Password.Reveal()
	return c
}

// Equal reports whether both mean the same, wherever they were written.
func (a Alarm) Equal(o Alarm) bool { return !differ(a.value(), o.value()) }

// validateAlarms has the library check each receiver.
func (d *decoder) validateAlarms(c *Config) {
	names := make(map[string]string)
	for i := range c.Alarms {
		a, path := &c.Alarms[i], fmt.Sprintf("alarms[%d]", i)
		d.unique(names, a.Name, path+".name")
		config := a.AlarmConfig()
		d.report(config.Validate(), path, a.keys(), "Email.Password", "Password")
		d.material().authorities(a.CA, path+".ca")
		if d.given(path+".ca") && config.Webhook == "" && config.Email.TLS == alarm.NoTLS {
			d.warn(path+".ca", "does nothing without tls: leave it out")
		}
	}
}
